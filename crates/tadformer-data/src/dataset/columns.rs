//! MATLAB's arrays lie columns first.

/// Values that lie columns first, rows first. A few rows at a time, so that what is read stays in the cache.
pub(super) fn rows_first<T: Copy, U: Copy + Default>(
    columns: &[T],
    height: usize,
    width: usize,
    value: impl Fn(T) -> U,
) -> Vec<U> {
    const ROWS: usize = 16;
    let mut rows = vec![U::default(); columns.len()];
    if columns.is_empty() {
        return rows;
    }
    for (block, target) in rows.chunks_mut(ROWS * width).enumerate() {
        for (x, column) in columns.chunks_exact(height).enumerate() {
            let column = &column[block * ROWS..];
            for (row, &v) in target.chunks_exact_mut(width).zip(column) {
                row[x] = value(v);
            }
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_become_rows_beyond_a_block_too() {
        let (height, width) = (37, 3);
        let columns: Vec<usize> = (0..height * width).map(|i| i % height * 10 + i / height).collect();
        let rows = rows_first(&columns, height, width, |v| v);
        assert!((0..height * width).all(|i| rows[i] == i / width * 10 + i % width));
        assert!(rows_first(&[0u8; 0], 0, 5, |v| v).is_empty());
    }
}
