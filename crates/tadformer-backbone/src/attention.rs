//! Window attention with sites at its linears.

use candle_core::{Result, Tensor, bail};
use tadformer_ops::{Around, Attended, Before, Init, Mode, Params, Windows, window_attention};
use tadformer_peft::{Site, SiteKind};

/// Window attention up to the projection; state-dict names `qkv`, `proj`, `relative_position_bias_table`.
#[derive(Debug, Clone)]
pub struct WindowAttention {
    qkv: Site,
    relative_position_bias_table: Tensor,
    proj: Site,
    heads: usize,
}

impl WindowAttention {
    /// Attention of `heads` heads over windows of side up to `window`.
    ///
    /// # Errors
    /// No head or an empty window, a loaded value of another shape, or sites that do not fit.
    pub fn new(
        dim: usize,
        heads: usize,
        window: usize,
        (qkv, proj): (SiteKind, SiteKind),
        params: &Params,
    ) -> Result<Self> {
        if heads == 0 || window == 0 {
            bail!("window attention: there is none of {heads} heads over windows of side {window}");
        }
        let entries = (2 * window - 1) * (2 * window - 1);
        Ok(Self {
            relative_position_bias_table: params.trainable(
                "relative_position_bias_table",
                (entries, heads),
                Init::swin(),
            )?,
            qkv: Site::new(dim, 3 * dim, qkv, &params.pp("qkv"))?,
            proj: Site::new(dim, dim, proj, &params.pp("proj"))?,
            heads,
        })
    }

    /// The site that projects the attention output.
    pub fn proj(&self) -> &Site {
        &self.proj
    }

    /// Packs both linears for prediction ([`Site::packed`]).
    ///
    /// # Errors
    /// One that is packed already.
    pub fn pack(&mut self) -> Result<()> {
        self.qkv = self.qkv.packed()?;
        self.proj = self.proj.packed()?;
        Ok(())
    }

    /// Attends within `windows`: what `before` makes of tokens `(b, h, w, c)` and prompts `(b, t, c)` to what the heads give,
    /// before `proj`.
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn attend(
        &self,
        before: Before<'_>,
        xs: &Tensor,
        prompts: Option<&Tensor>,
        windows: &Windows,
        mode: &mut Mode<'_>,
    ) -> Result<Attended> {
        let around = Around::after(before);
        let (qkv, _) = self.qkv.forward_around(xs, around, mode)?;
        // A prompt is the same in every window, so are its queries, keys and values: once an image is enough.
        let prompts = match prompts {
            Some(prompts) => Some(self.qkv.forward_around(prompts, around, mode)?.0),
            None => None,
        };
        window_attention(&qkv, prompts.as_ref(), &self.relative_position_bias_table, windows, self.heads)
    }
}
