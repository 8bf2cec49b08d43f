//! Plain slices of candle tensors in main memory.

use candle_core::{CpuStorage, Result, Storage, Tensor, bail};
use std::ops::Deref;

/// The numbers of a contiguous `f32` tensor in main memory, for as long as they are looked at.
pub(crate) struct Slice<'a> {
    storage: candle_core::StorageRef<'a>,
    start: usize,
    len: usize,
}

/// The numbers of `tensor` for the operation `op`.
///
/// # Errors
/// A tensor that is not contiguous `f32` on the CPU.
pub(crate) fn read<'a>(op: &'static str, tensor: &'a Tensor) -> Result<Slice<'a>> {
    let (storage, layout) = tensor.storage_and_layout();
    if !matches!(&*storage, Storage::Cpu(CpuStorage::F32(_))) {
        bail!(
            "{op}: a tensor is {:?} on {:?}, but this operation takes f32 on the CPU",
            tensor.dtype(),
            tensor.device()
        );
    }
    let Some((start, end)) = layout.contiguous_offsets() else {
        bail!("{op}: a tensor of shape {:?} is not contiguous", tensor.dims());
    };
    Ok(Slice { storage, start, len: end - start })
}

impl Deref for Slice<'_> {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match &*self.storage {
            Storage::Cpu(CpuStorage::F32(values)) => &values[self.start..self.start + self.len],
            _ => unreachable!("`read` accepted f32 on the CPU only"),
        }
    }
}
