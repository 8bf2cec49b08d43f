//! A data set in a folder, as its descriptor says: every known set, and yours.

use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};

use super::Dataset;
use super::fingerprint::Fingerprint;
use super::label::{LabelFile, LabelReader, resize_nearest};
use super::listing::Listing;
use super::orientation::{Sides, size_advice};
use super::pattern::Pattern;
use super::split::{self, Member, first_of};
use crate::descriptor::{Descriptor, Encoding, SplitSource, TaskDescriptor};
use crate::format::picture::{self, Orientation, Photo};
use crate::{Error, IGNORE, Raster, Result, Sample, Task, TaskSpec};

/// A split of a data set on disk. It holds ids and patterns; pictures and labels are read when asked for.
#[derive(Debug)]
pub struct FolderDataset {
    name: String,
    root: PathBuf,
    split: String,
    members: Vec<Member>,
    passed_over: Vec<String>,
    /// The descriptor, as text.
    described: String,
    images: Vec<Place>,
    orientation: Option<Orientation>,
    follow_links: bool,
    specs: Vec<TaskSpec>,
    labels: Vec<LabelPlaces>,
}

/// A pattern, and the folder that its matches must not leave.
#[derive(Debug)]
struct Place {
    pattern: Pattern,
    /// The real path of the fixed folder, unless links may lead anywhere.
    confined_to: Option<PathBuf>,
}

/// Where the labels of one task lie.
#[derive(Debug)]
struct LabelPlaces {
    sources: Vec<Source>,
    optional: bool,
    resize: bool,
}

#[derive(Debug)]
struct Source {
    place: Place,
    encoding: Encoding,
    /// The second file that some encodings look at.
    companion: Option<Place>,
    /// Whether there must be one.
    companion_needed: bool,
}

/// A file that should be there and is not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MissingFile {
    /// Of which sample.
    pub(crate) sample: usize,
    /// What it should hold: "image" or a task.
    pub(crate) what: &'static str,
    /// Where it was looked for, and what was found instead.
    pub(crate) message: String,
}

impl FolderDataset {
    /// Opens the split and looks for every file that the tasks need, without reading any.
    ///
    /// # Errors
    /// A missing root, an unknown split or task (what exists is listed), a split without samples, a bad list, and
    /// missing files: the first twenty and their number.
    pub fn open(descriptor: &Descriptor, root: &Path, split: &str, tasks: &[Task]) -> Result<Self> {
        let dataset = Self::index(descriptor, root, split, tasks)?;
        let missing: Vec<_> = dataset.missing_files().into_iter().map(|file| file.message).collect();
        if missing.is_empty() {
            return Ok(dataset);
        }
        let advice = dataset.list_advice().map(|advice| format!("; {advice}")).unwrap_or_default();
        Err(dataset.layout(format!(
            "split `{split}` lacks {} files: {}; `data check` lists every one{advice}",
            missing.len(),
            first_of(&missing)
        )))
    }

    /// Reads the split's ids alone.
    pub(crate) fn index(descriptor: &Descriptor, root: &Path, split: &str, tasks: &[Task]) -> Result<Self> {
        let layout = |reason| Error::Layout { name: descriptor.name.clone(), root: root.to_owned(), reason };
        if descriptor.generated {
            return Err(layout("its samples are made in memory, it has no folder to open".into()));
        }
        match fs::metadata(root) {
            Ok(found) if found.is_dir() => {}
            Ok(_) => return Err(layout("this is no folder; expected the data set's root".into())),
            Err(e) => {
                let how = descriptor.obtain.split_whitespace().collect::<Vec<_>>().join(" ");
                return Err(layout(format!(
                    "{e}; expected the folder that holds {}. {how}",
                    wanted(descriptor)
                )));
            }
        }
        let Some(source) = descriptor.splits.get(split) else {
            let known: Vec<_> = descriptor.splits.keys().map(String::as_str).collect();
            return Err(layout(format!("there is no split `{split}`; it has {}", known.join(", "))));
        };
        let place = |pattern: &str| Place::new(pattern, root, descriptor.follow_links);
        let images = descriptor.image.files.iter().map(|p| place(p)).collect::<Result<Vec<_>>>()?;
        let mut specs = Vec::with_capacity(tasks.len());
        let mut labels = Vec::with_capacity(tasks.len());
        for (task, spec, described) in choose(descriptor, tasks)? {
            debug_assert_eq!(task, spec.task);
            labels.push(LabelPlaces::new(described, &place)?);
            specs.push(spec);
        }
        let patterns = images.iter().map(|place| &place.pattern).collect();
        let task = specs.first().map_or("semseg", |spec| spec.task.name);
        let (members, passed_over) = split::members(root, split, source, patterns, task)?;
        if members.is_empty() {
            return Err(layout(format!(
                "split `{split}` has no samples; expected at least one in {}",
                wanted_split(source)
            )));
        }
        Ok(Self {
            name: descriptor.name.clone(),
            root: root.to_owned(),
            split: split.to_owned(),
            members,
            passed_over,
            described: toml::to_string(descriptor).map_err(|e| Error::Config(e.to_string()))?,
            images,
            orientation: descriptor.image.orientation,
            follow_links: descriptor.follow_links,
            specs,
            labels,
        })
    }

    /// Files that a scan came upon and did not take for pictures, under the root.
    pub(crate) fn passed_over(&self) -> &[String] {
        &self.passed_over
    }

    /// Every file that should be there and is not, sample by sample.
    pub(crate) fn missing_files(&self) -> Vec<MissingFile> {
        let mut listing = Listing::default();
        let mut missing = Vec::new();
        for (sample, member) in self.members.iter().enumerate() {
            let mut look = |what: &'static str, named: Option<&str>, places: &[&Place]| {
                let paths: Vec<PathBuf> = match named {
                    Some(path) => vec![PathBuf::from(path)],
                    None => places.iter().map(|p| p.pattern.path(&self.split, &member.id)).collect(),
                };
                if paths.iter().any(|path| listing.has(&self.root.join(path))) {
                    return;
                }
                let other = paths.iter().find_map(|path| listing.other_case(&self.root.join(path)));
                let tried: Vec<_> = paths.iter().map(|path| format!("`{}`", path.display())).collect();
                let unreadable = paths.iter().find_map(|path| listing.unreadable(&self.root.join(path)));
                let hint = other.map(|name| format!("there is `{}`", name.display())).or(unreadable);
                let hint = hint.map(|hint| format!(" ({hint})")).unwrap_or_default();
                missing.push(MissingFile {
                    sample,
                    what,
                    message: format!("{what}: {}{hint}", tried.join(" or ")),
                });
            };
            look("image", member.image(), &self.images.iter().collect::<Vec<_>>());
            for (spec, label) in self.specs.iter().zip(&self.labels) {
                let named = member.label(spec.task);
                if named.is_some() || !label.optional {
                    let places: Vec<_> = label.sources.iter().map(|s| &s.place).collect();
                    look(spec.task.name, named, &places);
                }
                for source in label.sources.iter().filter(|s| s.companion_needed) {
                    look(spec.task.name, None, &source.companion.iter().collect::<Vec<_>>());
                }
            }
        }
        missing
    }

    /// What to say if the lines of the list seem to be something else than ids, told by the first sample without a
    /// picture.
    pub(crate) fn list_advice(&self) -> Option<String> {
        let mut listing = Listing::default();
        let mut there = |id: &str| {
            let mut paths = self.images.iter().map(|place| place.pattern.path(&self.split, id));
            paths.find(|path| listing.has(&self.root.join(path)))
        };
        let member =
            self.members.iter().find(|member| member.paths.is_empty() && there(&member.id).is_none())?;
        let id = &member.id;
        let words: Vec<&str> = id.split([' ', '\t', ',', ';']).filter(|word| !word.is_empty()).collect();
        if words.len() > 1
            && let Some(path) = there(words[0])
        {
            let rest = ", \"-\"".repeat(words.len() - 1);
            return Some(format!(
                "`{id}` holds more than an id, and there is `{}`: `columns = [\"id\"{rest}]` beside `list` reads the \
                 first part of each line",
                path.display()
            ));
        }
        if let Some((stem, _)) = id.rsplit_once('.')
            && let Some(path) = there(stem)
        {
            return Some(format!(
                "`{id}` has an ending, and there is `{}`: an id stands without what the pattern adds",
                path.display()
            ));
        }
        self.root.join(id).is_file().then(|| {
            format!("`{id}` is itself a file: `columns = [\"image\"]` beside `list` reads paths of pictures")
        })
    }

    /// Reads the picture of the sample at `index`, turned as the descriptor says.
    pub(crate) fn load_photo(&self, index: usize) -> Result<Photo> {
        let member = &self.members[index];
        let path = match member.image() {
            Some(path) => self.named(path)?,
            None => {
                let found = self.find(&self.images, &member.id)?;
                found.map_or_else(|| self.first(&self.images, &member.id), |(_, path)| path)
            }
        };
        picture::read(&path, self.orientation.unwrap_or_default())
    }

    /// How pictures with an orientation tag are read, if the descriptor says so.
    pub(crate) fn orientation(&self) -> Option<Orientation> {
        self.orientation
    }

    /// Whether a sample may lack a label of the task at this place.
    pub(crate) fn is_optional(&self, task: usize) -> bool {
        self.labels[task].optional
    }

    /// The ways in which the labels of the task at this place may be encoded.
    pub(crate) fn encodings(&self, task: usize) -> impl Iterator<Item = &Encoding> {
        self.labels[task].sources.iter().map(|source| &source.encoding)
    }

    /// Reads one label map of the sample at `index`; `None` if it has none and need not have one.
    pub(crate) fn load_label(
        &self,
        index: usize,
        task: usize,
        reader: &mut LabelReader,
    ) -> Result<Option<Raster>> {
        let (member, spec, label) = (&self.members[index], &self.specs[task], &self.labels[task]);
        let id = &member.id;
        let places = label.sources.iter().map(|source| &source.place);
        let (at, path) = match (member.label(spec.task), self.find(places.clone(), id)?) {
            (Some(path), _) => (label.source_of(&self.split, path), self.named(path)?),
            (None, Some(found)) => found,
            (None, None) if label.optional => return Ok(None),
            (None, None) => (0, self.first(places, id)),
        };
        let source = &label.sources[at];
        let companion = match &source.companion {
            Some(place) => match self.find([place], id)? {
                None if source.companion_needed => Some(self.first([place], id)),
                found => found.map(|(_, path)| path),
            },
            None => None,
        };
        let form = RefCell::new(None);
        let file = LabelFile {
            path: &path,
            task: spec.task,
            classes: spec.classes.len(),
            palette: &spec.palette,
            form: &form,
        };
        let map = reader.read(file, &source.encoding, companion.as_deref());
        reader.form = form.take();
        let map = map?;
        let Some(picture) = reader.sides() else {
            return Ok(Some(map));
        };
        let own = (map.height, map.width);
        if own == picture.size {
            return Ok(Some(map));
        }
        if label.resize && !picture.are_swapped_in(own) {
            return Ok(Some(resize_nearest(&map, picture.size)));
        }
        Err(file.wrong(size_advice(own, picture, self.orientation.unwrap_or_default())))
    }

    /// The file at a path that a list gives, which must not be a link that leads out of its folder.
    fn named(&self, path: &str) -> Result<PathBuf> {
        let path = self.root.join(path);
        if !self.follow_links
            && path.exists()
            && let Some(folder) = path.parent().and_then(|folder| fs::canonicalize(folder).ok())
        {
            check_inside(&path, &folder)?;
        }
        Ok(path)
    }

    /// The first place that has a file for `id`.
    fn find<'a>(
        &self,
        places: impl IntoIterator<Item = &'a Place>,
        id: &str,
    ) -> Result<Option<(usize, PathBuf)>> {
        for (at, place) in places.into_iter().enumerate() {
            let path = self.root.join(place.pattern.path(&self.split, id));
            if !tadformer_files::is_file(&path).map_err(Error::io("read", &path))? && !path.exists() {
                continue;
            }
            if let Some(folder) = &place.confined_to {
                check_inside(&path, folder)?;
            }
            return Ok(Some((at, path)));
        }
        Ok(None)
    }

    /// Where the file was looked for first: the path that an error should name.
    fn first<'a>(&self, places: impl IntoIterator<Item = &'a Place>, id: &str) -> PathBuf {
        let place =
            places.into_iter().next().expect("a descriptor without patterns is refused when it is read");
        self.root.join(place.pattern.path(&self.split, id))
    }

    fn layout(&self, reason: String) -> Error {
        Error::Layout { name: self.name.clone(), root: self.root.clone(), reason }
    }
}

impl Dataset for FolderDataset {
    fn name(&self) -> &str {
        &self.name
    }

    fn tasks(&self) -> &[TaskSpec] {
        &self.specs
    }

    fn len(&self) -> usize {
        self.members.len()
    }

    fn id(&self, index: usize) -> String {
        self.members[index].id.clone()
    }

    fn fingerprint(&self) -> Option<String> {
        let mut fingerprint = Fingerprint::new(&self.root, &self.split, &self.described);
        for member in &self.members {
            let mut add = |named: Option<&str>, places: &mut dyn Iterator<Item = &Place>| match named {
                Some(path) => fingerprint.add(&PathBuf::from(path)),
                None => {
                    places.for_each(|place| fingerprint.add(&place.pattern.path(&self.split, &member.id)));
                }
            };
            add(member.image(), &mut self.images.iter());
            for (spec, label) in self.specs.iter().zip(&self.labels) {
                add(member.label(spec.task), &mut label.sources.iter().map(|source| &source.place));
                add(None, &mut label.sources.iter().filter_map(|source| source.companion.as_ref()));
            }
        }
        Some(fingerprint.finish())
    }

    fn load(&self, index: usize) -> Result<Sample> {
        let photo = self.load_photo(index)?;
        let mut reader = LabelReader::new(Some(Sides::of(&photo)));
        let image = photo.to_raster();
        let mut labels = Vec::with_capacity(self.specs.len());
        for (at, spec) in self.specs.iter().enumerate() {
            let map = self.load_label(index, at, &mut reader)?.unwrap_or_else(|| {
                Raster::filled(spec.task.label_channels(), image.height, image.width, IGNORE)
            });
            labels.push((spec.task, map));
        }
        Ok(Sample { id: self.id(index), image, labels })
    }
}

/// Refuses a link that leads out of `folder`.
fn check_inside(path: &Path, folder: &Path) -> Result<()> {
    let real = fs::canonicalize(path).map_err(Error::io("resolve", path))?;
    if real.starts_with(folder) {
        return Ok(());
    }
    Err(Error::decode(
        path,
        "file of a data set",
        format!(
            "it is a link to `{}`, outside `{}`; copy the file, or allow links with `follow_links = true` in the data \
             set's `dataset.toml`",
            real.display(),
            folder.display()
        ),
    ))
}

impl Place {
    fn new(pattern: &str, root: &Path, follow_links: bool) -> Result<Self> {
        let pattern = Pattern::parse(pattern).map_err(Error::Config)?;
        // The folder itself may be a link: whoever laid out the set put it there. A folder that is missing confines
        // nothing, and whatever is looked for in it will be missing too.
        let confined_to = match follow_links {
            true => None,
            false => fs::canonicalize(root.join(pattern.fixed_folder())).ok(),
        };
        Ok(Self { pattern, confined_to })
    }
}

impl LabelPlaces {
    fn new(described: &TaskDescriptor, place: &impl Fn(&str) -> Result<Place>) -> Result<Self> {
        let sources = described
            .sources
            .iter()
            .map(|source| {
                let (companion, companion_needed) = match &source.encoding {
                    Encoding::VectorsOnClasses { label_map, .. } => (Some(label_map), true),
                    Encoding::Disparity { camera, .. } => (camera.as_ref(), false),
                    _ => (None, false),
                };
                Ok(Source {
                    place: place(&source.file)?,
                    encoding: source.encoding.clone(),
                    companion: companion.map(|pattern| place(pattern)).transpose()?,
                    companion_needed,
                })
            })
            .collect::<Result<_>>()?;
        Ok(Self { sources, optional: described.optional, resize: described.resize })
    }

    /// The source that reads a path of a list: the one whose pattern has such paths, or else the first.
    fn source_of(&self, split: &str, path: &str) -> usize {
        self.sources
            .iter()
            .position(|source| source.place.pattern.id_in(split, path).is_some())
            .unwrap_or_default()
    }
}

/// The tasks asked for, in the order in which they were asked for.
fn choose<'d>(
    descriptor: &'d Descriptor,
    tasks: &[Task],
) -> Result<Vec<(Task, TaskSpec, &'d TaskDescriptor)>> {
    let has = || descriptor.tasks.iter().map(|t| t.task.as_str()).collect::<Vec<_>>().join(", ");
    if tasks.is_empty() {
        return Err(Error::Config(format!(
            "no tasks were asked for; data set `{}` has {}",
            descriptor.name,
            has()
        )));
    }
    let mut chosen = Vec::with_capacity(tasks.len());
    for (i, &task) in tasks.iter().enumerate() {
        if tasks[..i].contains(&task) {
            return Err(Error::Config(format!("task `{task}` was asked for twice")));
        }
        let described = descriptor.tasks.iter().find(|described| described.task == task.name);
        let found = described.and_then(|described| Some((task, described.spec()?, described)));
        chosen.push(found.ok_or_else(|| {
            Error::Config(format!(
                "data set `{}` has no labels for `{task}`; it has {}",
                descriptor.name,
                has()
            ))
        })?);
    }
    Ok(chosen)
}

/// The layout wanted, for messages.
fn wanted(descriptor: &Descriptor) -> String {
    let mut files: Vec<&str> = descriptor.image.files.iter().map(String::as_str).collect();
    files.extend(descriptor.tasks.iter().filter_map(|task| Some(task.sources.first()?.file.as_str())));
    files.iter().map(|file| format!("`{file}`")).collect::<Vec<_>>().join(", ")
}

fn wanted_split(source: &SplitSource) -> String {
    match source {
        SplitSource::List { list, .. } => format!("`{list}`"),
        SplitSource::Scan { .. } => "the folder of the pictures".into(),
    }
}
