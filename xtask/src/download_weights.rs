//! `cargo xtask download-weights`: published Swin weights into the Hugging Face cache.

use std::io::Write;

use anyhow::{Context, bail};
use indicatif::{ProgressBar, ProgressStyle};
use tadformer_weights::hub::{Progress, Settings, fetch_with};
use tadformer_weights::{Cache, KNOWN_MODELS, KnownModel, known_model};

/// Download pretrained Swin weights into the Hugging Face cache, and say where they are.
///
/// Honours HF_HOME, HF_HUB_CACHE, HF_ENDPOINT, HF_TOKEN and HF_HUB_OFFLINE. A broken download is taken up where it
/// ended; what arrives is verified by size and SHA-256.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Names from --list; swin-tiny if none is given
    #[arg(value_name = "MODEL")]
    models: Vec<String>,
    /// Show the known models and which of them are in the cache
    #[arg(long, conflicts_with = "models")]
    list: bool,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let settings = Settings::from_env()?;
    if arguments.list {
        return list(&Cache::new(&settings.cache), &mut std::io::stdout().lock());
    }
    let names =
        if arguments.models.is_empty() { vec!["swin-tiny".to_owned()] } else { arguments.models.clone() };
    // A typing error ends the command before anything is transferred.
    let models = names.iter().map(|name| find(name)).collect::<anyhow::Result<Vec<_>>>()?;
    for model in models {
        let source = model.source();
        let path = fetch_with(&settings, &source, &mut Bar::default())
            .with_context(|| format!("the weights `{}` were not downloaded", model.name))?;
        println!("{}  {}", model.name, path.display());
    }
    Ok(())
}

fn find(name: &str) -> anyhow::Result<&'static KnownModel> {
    match known_model(name) {
        Some(model) => Ok(model),
        None => {
            let known: Vec<&str> = KNOWN_MODELS.iter().map(|model| model.name).collect();
            bail!("no model `{name}`; known are {}", known.join(", "))
        }
    }
}

fn list(cache: &Cache, out: &mut dyn Write) -> anyhow::Result<()> {
    let width =
        |of: fn(&KnownModel) -> &str| KNOWN_MODELS.iter().map(|model| of(model).len()).max().unwrap_or(0);
    let (names, repos) = (width(|model| model.name), width(|model| model.repo));
    for model in KNOWN_MODELS {
        let size = model.megabytes.map_or_else(|| "?".to_owned(), |megabytes| megabytes.to_string());
        let cached = if cache.find(&model.source()).is_some() { "in the cache" } else { "" };
        let line = format!(
            "{:names$}  {:repos$}  {size:>4} MB  window {:2}  {:21}  {cached}",
            model.name, model.repo, model.window, model.trained_on
        );
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

/// A bar on standard error while a transfer runs; invisible where that is no terminal.
#[derive(Default)]
struct Bar(Option<ProgressBar>);

impl Progress for Bar {
    fn started(&mut self, file: &str, size: Option<u64>, have: u64) {
        let bar = size.map_or_else(ProgressBar::no_length, ProgressBar::new);
        let style =
            ProgressStyle::with_template("{msg} [{wide_bar}] {bytes}/{total_bytes} {bytes_per_sec} {eta}");
        bar.set_style(style.expect("the template is well formed"));
        bar.set_message(file.to_owned());
        // What was there does not count for the speed.
        bar.set_position(have);
        bar.reset_eta();
        self.0 = Some(bar);
    }

    fn received(&mut self, bytes: u64) {
        if let Some(bar) = &self.0 {
            bar.inc(bytes);
        }
    }

    fn note(&mut self, text: &str) {
        match &self.0 {
            Some(bar) => bar.suspend(|| eprintln!("{text}")),
            None => eprintln!("{text}"),
        }
    }

    fn finished(&mut self) {
        if let Some(bar) = self.0.take() {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_names_every_model_on_a_line_of_its_own() {
        let mut out = Vec::new();
        list(&Cache::new("/nowhere"), &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text.lines().count(), KNOWN_MODELS.len());
        for (line, model) in text.lines().zip(KNOWN_MODELS) {
            assert!(
                line.starts_with(model.name) && line.contains(model.repo) && !line.contains("in the cache"),
                "{line}"
            );
        }
    }

    #[test]
    fn an_unknown_model_names_the_known() {
        let message = find("swin-tny").unwrap_err().to_string();
        assert!(message.contains("`swin-tny`") && message.contains("swin-tiny, swin-tiny-22k"), "{message}");
    }

    #[test]
    fn the_bar_follows_a_transfer() {
        let mut bar = Bar::default();
        bar.received(1);
        bar.note("before a transfer");
        bar.started("org/name/file", Some(100), 40);
        bar.received(10);
        assert_eq!(bar.0.as_ref().map(ProgressBar::position), Some(50));
        bar.finished();
        assert!(bar.0.is_none());
    }
}
