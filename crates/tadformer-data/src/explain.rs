//! What is wrong with something that somebody wrote, in words that help.

/// Characters of a line that an error quotes.
const QUOTED: usize = 200;

/// Characters of a message that are kept: more than any list of ours has.
const MESSAGE: usize = 2000;

/// `; did you mean …?` with the known name that is nearest to `wrong`, if one is near enough; otherwise nothing.
///
/// ```
/// use tadformer_data::did_you_mean;
/// assert_eq!(did_you_mean("segsem", ["depth", "semseg"]), "; did you mean `semseg`?");
/// assert_eq!(did_you_mean("imagenet", ["depth", "semseg"]), "");
/// ```
pub fn did_you_mean<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    // Half of the letters must be right; words of one letter are near to everything.
    let near =
        |name: &&str| strsim::normalized_damerau_levenshtein(&wrong.to_lowercase(), &name.to_lowercase());
    let best = known.into_iter().filter(|name| near(name) > 0.55).max_by(|a, b| near(a).total_cmp(&near(b)));
    best.map_or(String::new(), |name| format!("; did you mean `{name}`?"))
}

/// What a reader of typed texts says of an unknown key or word, with the nearest of those that it expected.
///
/// ```
/// let message = "unknown field `epoch`, expected one of `epochs`, `panels`";
/// assert_eq!(tadformer_data::with_suggestion(message), format!("{message}; did you mean `epochs`?"));
/// ```
pub fn with_suggestion(message: &str) -> String {
    let unknown = ["unknown field `", "unknown variant `"]
        .into_iter()
        .find_map(|start| message.split_once(start)?.1.split_once("`, expected "));
    let Some((wrong, expected)) = unknown else {
        return shortened(message);
    };
    // Every second piece is between backticks.
    let known = expected.lines().next().unwrap_or_default().split('`').skip(1).step_by(2);
    let nearest = did_you_mean(wrong, known);
    format!("{}{nearest}", shortened(message.trim_end()))
}

/// A message without its middle where it repeats what somebody wrote and that is very long.
fn shortened(message: &str) -> String {
    let count = message.chars().count();
    if count <= MESSAGE {
        return message.to_owned();
    }
    let start: String = message.chars().take(QUOTED).collect();
    let end: String = message.chars().skip(count - QUOTED).collect();
    format!("{start}… {} characters …{end}", count - 2 * QUOTED)
}

/// What is wrong in the TOML text `text`, with the place, the line there, and the nearest of what was expected.
///
/// A line that is longer than anybody writes is quoted in part.
pub fn toml_error(text: &str, error: &toml::de::Error) -> String {
    let whole = error.to_string();
    if whole.lines().all(|line| line.chars().count() <= QUOTED) {
        return with_suggestion(&whole);
    }
    let message = with_suggestion(error.message());
    let Some(before) = error.span().and_then(|span| text.get(..span.start)) else {
        return message;
    };
    let start = before.rfind('\n').map_or(0, |at| at + 1);
    let column = before[start..].chars().count();
    let line: Vec<char> = text[start..].lines().next().unwrap_or_default().chars().collect();
    let first = column.saturating_sub(QUOTED / 2);
    let quoted: String = line[first..line.len().min(first + QUOTED)].iter().collect();
    format!(
        "TOML parse error at line {}, column {}, in a line of {} characters, near `{quoted}`: {message}",
        before.matches('\n').count() + 1,
        column + 1,
        line.len()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_suggested_and_nothing_far_away() {
        let methods = ["tadformer", "full", "decoders-only"];
        for (wrong, right) in [("tadfomer", "tadformer"), ("decoder-only", "decoders-only"), ("Full", "full")]
        {
            assert_eq!(did_you_mean(wrong, methods), format!("; did you mean `{right}`?"));
        }
        assert_eq!(did_you_mean("x", methods), "");
        assert_eq!(did_you_mean("", methods), "");
        assert_eq!(did_you_mean("lora", methods), "");
    }

    #[test]
    fn a_long_value_is_not_repeated_whole() {
        let message = format!("invalid type: string \"{}\", expected usize", "x".repeat(100_000));
        let short = with_suggestion(&message);
        assert!(
            short.starts_with("invalid type: string \"xxx") && short.ends_with("xxx\", expected usize"),
            "{short}"
        );
        assert!(short.len() < 500, "{} bytes", short.len());
    }

    #[test]
    fn a_long_line_is_quoted_in_part() {
        let text = format!("a = 1\nb = \"{}\" c = 3 # {}\n", "é".repeat(300), "x".repeat(100_000));
        let error = toml::from_str::<toml::Table>(&text).unwrap_err();
        let message = toml_error(&text, &error);
        assert!(message.len() < 1000, "{} bytes", message.len());
        assert!(message.contains("line 2, column 3") && message.contains("c = 3"), "{message}");
        let short = toml::from_str::<toml::Table>("a = \n").unwrap_err();
        assert_eq!(toml_error("a = \n", &short), short.to_string());
    }
}
