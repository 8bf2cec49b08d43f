//! Window attention with sites at its linears.

use crate::WindowPadding;
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
    window: usize,
    padding: WindowPadding,
}

impl WindowAttention {
    /// Attention of `heads` heads over windows of side up to `window`, padded with `padding`.
    ///
    /// # Errors
    /// No head or an empty window, a loaded value of another shape, or sites that do not fit.
    pub fn new(
        dim: usize,
        heads: usize,
        (window, padding): (usize, WindowPadding),
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
            window,
            padding,
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

    /// How an `h × w` grid is cut into windows, shifted by half a window if `shifted`: see [`WindowPadding`].
    ///
    /// # Errors
    /// An empty grid.
    pub fn windows(&self, h: usize, w: usize, shifted: bool) -> Result<Windows> {
        let shift = if shifted { self.window / 2 } else { 0 };
        match self.padding {
            WindowPadding::Masked if h.min(w) <= self.window => Windows::new(h, w, h.min(w), 0),
            WindowPadding::Masked => Windows::new(h, w, self.window, shift),
            WindowPadding::Zeros => Windows::padded(h, w, self.window, shift),
        }
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
        let padding = match self.padding {
            WindowPadding::Masked => None,
            WindowPadding::Zeros => Some(self.qkv.of_zeros()?),
        };
        let table = &self.relative_position_bias_table;
        window_attention(&qkv, prompts.as_ref(), padding.as_ref(), table, windows, self.heads)
    }
}
