//! Where layers get their tensors from, and the one list of what a model owns.
//!
//! A layer asks its [`Params`] for tensors by name and says what each is for. What was asked for as trainable *is*
//! what trains: the optimiser, the checkpoint and the parameter table all read the same list, [`ParamStore::entries`].

use crate::Init;
use candle_core::{DType, Device, Result, Shape, Tensor, Var, bail};
use candle_nn::VarBuilder;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

/// What a tensor of a model is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Changed by the optimiser.
    Trainable,
    /// A pretrained or random weight that stays as it is.
    Frozen,
    /// State that is not a weight: running statistics.
    Buffer,
}

/// Gives tensors by full name.
pub trait Source: Send + Sync {
    /// The tensor `name`, created with `init` when the source has no value for it.
    ///
    /// # Errors
    /// A value of another shape, or none where one is required.
    fn get(&self, name: &str, shape: &Shape, init: Init, role: Role) -> Result<Tensor>;
}

/// A name prefix in a source of tensors.
///
/// Candle's `VarBuilder` converts into it, so that layers made for `Params` work inside other candle models.
#[derive(Clone)]
pub struct Params {
    source: Arc<dyn Source>,
    prefix: String,
    frozen: bool,
}

impl Params {
    /// The root of a source.
    pub fn new(source: Arc<dyn Source>) -> Self {
        Self { source, prefix: String::new(), frozen: false }
    }

    /// The same source, one name deeper.
    pub fn pp(&self, name: impl ToString) -> Self {
        Self { prefix: self.path(&name.to_string()), ..self.clone() }
    }

    /// The same place with everything below frozen, whatever its layers ask for.
    pub fn frozen_scope(&self) -> Self {
        Self { frozen: true, ..self.clone() }
    }

    /// A tensor that the optimiser changes (a plain one inside a [frozen scope](Self::frozen_scope)).
    ///
    /// # Errors
    /// A loaded value of another shape.
    pub fn trainable(&self, name: &str, shape: impl Into<Shape>, init: Init) -> Result<Tensor> {
        let role = if self.frozen { Role::Frozen } else { Role::Trainable };
        self.source.get(&self.path(name), &shape.into(), init, role)
    }

    /// A tensor that no gradient reaches.
    ///
    /// # Errors
    /// A loaded value of another shape.
    pub fn frozen(&self, name: &str, shape: impl Into<Shape>, init: Init) -> Result<Tensor> {
        self.source.get(&self.path(name), &shape.into(), init, Role::Frozen)
    }

    /// State that a layer updates itself.
    ///
    /// # Errors
    /// A loaded value of another shape.
    pub fn buffer(&self, name: &str, shape: impl Into<Shape>, init: Init) -> Result<Var> {
        Var::from_tensor(&self.source.get(&self.path(name), &shape.into(), init, Role::Buffer)?)
    }

    /// What `build` makes with these params, and the variables that it asked them for, in that order.
    ///
    /// # Errors
    /// Those of `build`.
    pub fn with_variables<T>(&self, build: impl FnOnce(&Self) -> Result<T>) -> Result<(T, Vec<Tensor>)> {
        let listener = Arc::new(Listener { source: Arc::clone(&self.source), heard: Mutex::default() });
        let built = build(&Self { source: Arc::clone(&listener) as Arc<dyn Source>, ..self.clone() })?;
        let heard = std::mem::take(&mut *listener.heard());
        Ok((built, heard))
    }

    fn path(&self, name: &str) -> String {
        if self.prefix.is_empty() { name.to_owned() } else { format!("{}.{name}", self.prefix) }
    }
}

impl std::fmt::Debug for Params {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Params")
            .field("prefix", &self.prefix)
            .field("frozen", &self.frozen)
            .finish_non_exhaustive()
    }
}

/// A source that remembers the variables that layers ask it for as trainable.
struct Listener {
    source: Arc<dyn Source>,
    heard: Mutex<Vec<Tensor>>,
}

impl Listener {
    fn heard(&self) -> MutexGuard<'_, Vec<Tensor>> {
        self.heard.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Source for Listener {
    fn get(&self, name: &str, shape: &Shape, init: Init, role: Role) -> Result<Tensor> {
        let tensor = self.source.get(name, shape, init, role)?;
        if role == Role::Trainable && tensor.is_variable() {
            self.heard().push(tensor.clone());
        }
        Ok(tensor)
    }
}

/// A candle `VarBuilder` as a source; its backend decides what is a variable.
struct Builder(VarBuilder<'static>);

impl Source for Builder {
    fn get(&self, name: &str, shape: &Shape, init: Init, role: Role) -> Result<Tensor> {
        // Candle has no truncated normal: its plain one stands in.
        let hint = match init {
            Init::Const(value) => candle_nn::Init::Const(value),
            Init::Uniform { bound } => candle_nn::Init::Uniform { lo: -bound, up: bound },
            Init::Normal { mean, std } | Init::TruncatedNormal { mean, std, .. } => {
                candle_nn::Init::Randn { mean, stdev: std }
            }
        };
        let tensor = self.0.get_with_hints(shape.clone(), name, hint)?;
        Ok(if role == Role::Frozen { tensor.detach() } else { tensor })
    }
}

impl From<VarBuilder<'static>> for Params {
    fn from(vb: VarBuilder<'static>) -> Self {
        Self::new(Arc::new(Builder(vb)))
    }
}

/// One tensor that a model owns.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Full name.
    pub name: String,
    /// What it is for.
    pub role: Role,
    /// Its value; a variable unless it is frozen.
    pub tensor: Tensor,
    /// Whether the value was loaded rather than drawn.
    pub loaded: bool,
}

/// The tensors of one model, in the order in which its layers asked for them.
///
/// Initial values come from loaded tensors where there are any, otherwise from the seeded stream of the tensor's name:
/// a model is a function of its configuration, its loaded weights and one seed.
#[derive(Debug)]
pub struct ParamStore {
    seed: u64,
    loaded: HashMap<String, Tensor>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    entries: Vec<Entry>,
    index: HashMap<String, usize>,
}

impl ParamStore {
    /// An empty store whose tensors are all drawn from `seed`.
    pub fn new(seed: u64) -> Arc<Self> {
        Self::with_values(seed, HashMap::new())
    }

    /// A store that takes values from `loaded` by full name and draws the others.
    pub fn with_values(seed: u64, loaded: HashMap<String, Tensor>) -> Arc<Self> {
        Arc::new(Self { seed, loaded, state: Mutex::default() })
    }

    /// The root from which layers are built.
    pub fn params(self: &Arc<Self>) -> Params {
        Params::new(Arc::clone(self) as Arc<dyn Source>)
    }

    /// Every tensor asked for so far, in that order.
    pub fn entries(&self) -> Vec<Entry> {
        self.state().entries.clone()
    }

    /// The entries of one role.
    pub fn with_role(&self, role: Role) -> Vec<Entry> {
        self.state().entries.iter().filter(|entry| entry.role == role).cloned().collect()
    }

    /// The tensor called `name`, if a layer asked for it.
    pub fn get(&self, name: &str) -> Option<Entry> {
        let state = self.state();
        state.index.get(name).map(|&i| state.entries[i].clone())
    }

    /// Names of loaded tensors that no layer asked for, sorted.
    pub fn unused(&self) -> Vec<String> {
        let state = self.state();
        let mut unused: Vec<_> =
            self.loaded.keys().filter(|name| !state.index.contains_key(*name)).cloned().collect();
        unused.sort_unstable();
        unused
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Source for ParamStore {
    fn get(&self, name: &str, shape: &Shape, init: Init, role: Role) -> Result<Tensor> {
        let mut state = self.state();
        if state.index.contains_key(name) {
            bail!("two layers ask for a tensor called `{name}`");
        }
        let found = self.loaded.get(name);
        let value = match found {
            Some(value) if value.shape() == shape => value.to_dtype(DType::F32)?.to_device(&Device::Cpu)?,
            Some(value) => {
                bail!("`{name}` has shape {:?}, but the model needs {:?}", value.dims(), shape.dims())
            }
            None => init.tensor(self.seed, name, shape)?,
        };
        let tensor = match role {
            Role::Frozen => value,
            // A variable of its own memory: what was loaded stays as it was.
            Role::Trainable | Role::Buffer => Var::from_tensor(&value.copy()?)?.as_tensor().clone(),
        };
        let position = state.entries.len();
        state.index.insert(name.to_owned(), position);
        state.entries.push(Entry {
            name: name.to_owned(),
            role,
            tensor: tensor.clone(),
            loaded: found.is_some(),
        });
        // Layers see running statistics as plain numbers and change them through their `Var`.
        Ok(tensor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_decide_what_is_a_variable() {
        let store = ParamStore::new(0);
        let params = store.params().pp("layer");
        assert!(params.trainable("a", 3, Init::ONES).unwrap().is_variable());
        assert!(!params.frozen("w", (2, 3), Init::swin()).unwrap().is_variable());
        assert!(!params.frozen_scope().trainable("norm", 3, Init::ONES).unwrap().is_variable());
        let names: Vec<_> = store.with_role(Role::Trainable).into_iter().map(|e| e.name).collect();
        assert_eq!(names, ["layer.a"]);
    }

    #[test]
    fn loaded_values_win_and_their_shape_is_checked() {
        let value = Tensor::new(&[4f32, 5.], &Device::Cpu).unwrap();
        let loaded = HashMap::from([("x.w".to_owned(), value.clone()), ("stray".to_owned(), value)]);
        let store = ParamStore::with_values(0, loaded);
        let w = store.params().pp("x").trainable("w", 2, Init::ZEROS).unwrap();
        assert_eq!(w.to_vec1::<f32>().unwrap(), [4., 5.]);
        assert_eq!(store.unused(), ["stray"]);
        let message = store.params().trainable("stray", 3, Init::ZEROS).unwrap_err().to_string();
        assert!(message.contains("`stray` has shape [2], but the model needs [3]"), "{message}");
        let again = store.params().pp("x").trainable("w", 2, Init::ZEROS);
        crate::testing::assert_refused(again, &["two layers ask", "`x.w`"]);
    }

    #[test]
    fn the_variables_of_a_part_are_those_that_it_asked_for() {
        let store = ParamStore::new(0);
        let build = |params: &Params| {
            params.frozen("w", 2, Init::ZEROS)?;
            params.buffer("mean", 2, Init::ZEROS)?;
            params.frozen_scope().trainable("norm", 2, Init::ONES)?;
            params.pp("lora").trainable("a", 2, Init::ZEROS)
        };
        let (built, variables) = store.params().pp("block").with_variables(build).unwrap();
        let ids: Vec<_> = variables.iter().map(Tensor::id).collect();
        assert_eq!(ids, [built.id()]);
        assert_eq!(store.get("block.lora.a").unwrap().tensor.id(), built.id());
    }

    #[test]
    fn a_candle_var_builder_is_a_source() {
        let map = candle_nn::VarMap::new();
        let params = Params::from(VarBuilder::from_varmap(&map, DType::F32, &Device::Cpu)).pp("lora");
        assert!(params.trainable("a", (2, 2), Init::fan_in_uniform(2)).unwrap().is_variable());
        assert!(map.data().lock().unwrap().contains_key("lora.a"));
    }
}
