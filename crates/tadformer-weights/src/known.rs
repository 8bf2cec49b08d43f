//! Published Swin weights by short names.

use crate::cache::Source;

/// Published weights that can be asked for by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownModel {
    /// What users type: `swin-tiny`.
    pub name: &'static str,
    /// Repository on the Hub.
    pub repo: &'static str,
    /// File in the repository.
    pub file: &'static str,
    /// SHA-256 of the file in hexadecimal, where one is published.
    pub sha256: Option<&'static str>,
    /// Size of the file in megabytes (10^6 bytes), as the repository's page shows it, where it was seen.
    pub megabytes: Option<u32>,
    /// Side of the attention window in tokens.
    pub window: usize,
    /// What it was trained on: ImageNet-1k, ImageNet-22k, or the second and then the first.
    pub trained_on: &'static str,
}

impl KnownModel {
    /// Where to fetch it: the `main` revision.
    pub fn source(&self) -> Source {
        Source {
            repo: self.repo.to_owned(),
            revision: "main".to_owned(),
            file: self.file.to_owned(),
            sha256: self.sha256.map(str::to_owned),
        }
    }
}

const IN1K: &str = "ImageNet-1k";
const IN22K: &str = "ImageNet-22k";
const IN22K_IN1K: &str = "ImageNet-22k, then 1k";

const fn timm(
    name: &'static str,
    repo: &'static str,
    megabytes: Option<u32>,
    window: usize,
    trained_on: &'static str,
) -> KnownModel {
    KnownModel { name, repo, file: "model.safetensors", sha256: None, megabytes, window, trained_on }
}

/// All of them, smallest first. The repositories of timm publish no checksums; the Hub's own checksum of the file is
/// verified on download, and a configuration may pin it.
pub const KNOWN_MODELS: &[KnownModel] = &[
    timm("swin-tiny", "timm/swin_tiny_patch4_window7_224.ms_in1k", Some(114), 7, IN1K),
    timm("swin-tiny-22k", "timm/swin_tiny_patch4_window7_224.ms_in22k", Some(178), 7, IN22K),
    timm("swin-tiny-22k-1k", "timm/swin_tiny_patch4_window7_224.ms_in22k_ft_in1k", Some(114), 7, IN22K_IN1K),
    KnownModel {
        name: "swin-tiny-microsoft",
        repo: "microsoft/swin-tiny-patch4-window7-224",
        file: "model.safetensors",
        sha256: Some("a941acf68a76b365d67738d6c6dce4f0db3ea5224b7cff856d3f8f3753502d29"),
        megabytes: Some(113),
        window: 7,
        trained_on: IN1K,
    },
    timm("swin-small", "timm/swin_small_patch4_window7_224.ms_in1k", Some(200), 7, IN1K),
    timm("swin-small-22k", "timm/swin_small_patch4_window7_224.ms_in22k", None, 7, IN22K),
    timm("swin-small-22k-1k", "timm/swin_small_patch4_window7_224.ms_in22k_ft_in1k", None, 7, IN22K_IN1K),
    timm("swin-base", "timm/swin_base_patch4_window7_224.ms_in1k", Some(353), 7, IN1K),
    timm("swin-base-22k", "timm/swin_base_patch4_window7_224.ms_in22k", None, 7, IN22K),
    timm("swin-base-22k-1k", "timm/swin_base_patch4_window7_224.ms_in22k_ft_in1k", Some(353), 7, IN22K_IN1K),
    timm("swin-base-384", "timm/swin_base_patch4_window12_384.ms_in1k", None, 12, IN1K),
    timm("swin-base-384-22k", "timm/swin_base_patch4_window12_384.ms_in22k", None, 12, IN22K),
    timm("swin-base-384-22k-1k", "timm/swin_base_patch4_window12_384.ms_in22k_ft_in1k", None, 12, IN22K_IN1K),
    // Swin-L was never trained on ImageNet-1k alone.
    timm("swin-large", "timm/swin_large_patch4_window7_224.ms_in22k_ft_in1k", None, 7, IN22K_IN1K),
    timm("swin-large-22k", "timm/swin_large_patch4_window7_224.ms_in22k", Some(916), 7, IN22K),
    timm("swin-large-384", "timm/swin_large_patch4_window12_384.ms_in22k_ft_in1k", None, 12, IN22K_IN1K),
    timm("swin-large-384-22k", "timm/swin_large_patch4_window12_384.ms_in22k", None, 12, IN22K),
];

/// The published weights of that name.
pub fn known_model(name: &str) -> Option<&'static KnownModel> {
    KNOWN_MODELS.iter().find(|model| model.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_checksums_whole() {
        for (at, model) in KNOWN_MODELS.iter().enumerate() {
            assert!(!KNOWN_MODELS[..at].iter().any(|other| other.name == model.name), "{}", model.name);
            assert!(model.source().check().is_ok(), "{}", model.name);
        }
        assert_eq!(known_model("swin-large-384").unwrap().window, 12);
        assert!(known_model("swin-huge").is_none());
    }
}
