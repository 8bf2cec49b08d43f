//! The machine that figures are of.

use serde::Serialize;
use std::fs;

/// What of the machine decides the figures.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Machine {
    pub(crate) processor: String,
    /// Processors that this process may use.
    pub(crate) processors: usize,
    /// Bytes of main memory.
    pub(crate) memory: Option<u64>,
    /// The vector instructions among the processor's features.
    pub(crate) vectors: Vec<String>,
    pub(crate) system: String,
}

/// Features that say which kernels can run.
const VECTORS: [&str; 8] =
    ["avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "asimd", "bf16"];

impl Machine {
    pub(crate) fn this() -> Self {
        let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let field = |names: [&str; 2]| names.iter().find_map(|name| first(&info, name));
        let features = field(["flags", "Features"]).unwrap_or_default();
        let has = |vector: &&str| features.split_whitespace().any(|feature| feature == *vector);
        Self {
            processor: field(["model name", "Model"]).unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            memory: memory("MemTotal"),
            vectors: VECTORS.into_iter().filter(has).map(str::to_owned).collect(),
            system: std::env::consts::OS.to_owned(),
        }
    }

    /// One line for a table.
    pub(crate) fn describe(&self) -> String {
        let Self { processor, processors, vectors, system, .. } = self;
        let memory = self.memory.map_or("unknown memory".to_owned(), |bytes| {
            format!("{:.0} GiB memory", bytes as f64 / f64::from(1 << 30))
        });
        format!("{processor}, {processors} processors, {memory}, {system}, {}", vectors.join(" "))
    }
}

/// Bytes that could still be taken without swapping; nothing off Linux.
pub(crate) fn available_memory() -> Option<u64> {
    memory("MemAvailable")
}

fn memory(name: &str) -> Option<u64> {
    let info = fs::read_to_string("/proc/meminfo").ok()?;
    let kibibytes: u64 = first(&info, name)?.strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// The value of the first line `name : value`.
fn first(text: &str, name: &str) -> Option<String> {
    let mut fields = text.lines().filter_map(|line| line.split_once(':'));
    fields.find(|(field, _)| field.trim() == name).map(|(_, value)| value.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_found_by_its_whole_name() {
        let text = "model\t\t: 85\nmodel name\t: Some CPU @ 2 GHz: fast\n\nMemTotal:  12 kB\n";
        assert_eq!(first(text, "model name").as_deref(), Some("Some CPU @ 2 GHz: fast"));
        assert_eq!(first(text, "MemTotal").as_deref(), Some("12 kB"));
        assert_eq!(first(text, "Model"), None);
    }

    #[test]
    fn this_machine_has_a_processor() {
        let machine = Machine::this();
        assert!(machine.processors >= 1 && !machine.processor.is_empty(), "{machine:?}");
    }
}
