//! A small pretrained backbone inside the program, so that the first fine-tune needs no download.
//!
//! A Swin with 24 channels, trained by this project on synthetic scenes that share no shape, material or light with
//! those of the quickstart. `configs/pretrain.toml` is its recipe; `assets/README.md` has the command and the scores.
//! As `model.weights` it is called `embedded`.

use tadformer_backbone::SwinConfig;

/// The weight file: safetensors, half precision, timm's names.
pub const BACKBONE: &[u8] = include_bytes!("../assets/swin-embedded.safetensors");

/// The sizes of the backbone that the weights are of.
///
/// ```
/// assert_eq!(tadformer::embedded::config().embed_dim, 24);
/// assert!(tadformer::embedded::BACKBONE.len() <= 2_000_000);
/// ```
pub fn config() -> SwinConfig {
    SwinConfig {
        embed_dim: 24,
        depths: [2, 2, 2, 2],
        num_heads: [2, 4, 8, 16],
        window_size: 4,
        mlp_ratio: 2,
        ..SwinConfig::tiny()
    }
}
