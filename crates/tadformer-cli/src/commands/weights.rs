//! Published weights that a configuration names.

use anyhow::Result;
use tadformer::Config;

/// Sees to it that weights which go by a known name are in the cache: `swin-tiny` is downloaded if it is not there.
#[cfg(feature = "hub")]
pub(crate) fn fetch(config: &Config) -> Result<()> {
    use crate::progress::DownloadProgress;
    use anyhow::Context;

    let weights = String::from(config.model.weights.clone());
    if let Some(model) = tadformer_weights::known_model(&weights) {
        tadformer_weights::hub::fetch(&model.source(), &mut DownloadProgress::default()).with_context(|| {
            format!("the weights `{weights}` are not there; `--weights FILE` takes any file, `--weights none` draws them")
        })?;
    }
    Ok(())
}

/// Without the network, the cache is all there is; a name that is not in it is refused where it is looked up.
#[cfg(not(feature = "hub"))]
pub(crate) fn fetch(_: &Config) -> Result<()> {
    Ok(())
}
