//! Golden files: inputs, outputs and gradients computed elsewhere, by case and tensor name.

use super::{GoldenStore, assert_close, assert_zero};
use crate::Role;
use candle_core::{Device, Tensor, Var};
use serde_json::Value;
use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// A safetensors file whose metadata entry `meta` describes its cases.
///
/// Names are `<case>/in|out|cot|grad_in|grad/<tensor>`; gradients are those of `Σ out · cot`.
///
/// A number that nothing is compared with proves nothing: dropping the file fails the test, unless every tensor was
/// [asked for](Self::tensor) or is [said](Self::compared_elsewhere) to be compared by another test.
#[derive(Debug)]
pub struct GoldenFile {
    tensors: HashMap<String, Tensor>,
    /// Names that nobody asked for yet.
    left: Mutex<BTreeSet<String>>,
    /// The `meta` entry.
    pub meta: Value,
}

impl GoldenFile {
    /// Reads `path`.
    ///
    /// # Panics
    /// If it is not a golden file.
    pub fn open(path: impl AsRef<Path>) -> Self {
        let path = path.as_ref();
        let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("cannot read `{}`: {e}", path.display()));
        let (_, metadata) = safetensors::SafeTensors::read_metadata(&bytes).expect("a safetensors header");
        let meta =
            metadata.metadata().as_ref().and_then(|entries| entries.get("meta")).expect("a `meta` entry");
        let mut tensors = candle_core::safetensors::load_buffer(&bytes, &Device::Cpu).expect("tensors");
        // A BatchNorm of PyTorch counts the batches that it saw; ours does not.
        tensors.retain(|name, _| !name.ends_with("num_batches_tracked"));
        let left = Mutex::new(tensors.keys().cloned().collect());
        Self { meta: serde_json::from_str(meta).expect("`meta` is JSON"), tensors, left }
    }

    /// Leaves the tensors whose names start with one of `prefixes` to another test.
    pub fn compared_elsewhere(&self, prefixes: &[&str]) {
        self.left().retain(|name| !prefixes.iter().any(|prefix| name.starts_with(prefix)));
    }

    fn left(&self) -> std::sync::MutexGuard<'_, BTreeSet<String>> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Names of its cases.
    pub fn cases(&self) -> Vec<String> {
        self.meta["cases"].as_object().expect("cases").keys().cloned().collect()
    }

    /// Description of a case.
    pub fn case(&self, case: &str) -> &Value {
        &self.meta["cases"][case]
    }

    /// An unsigned number in the description of a case.
    ///
    /// # Panics
    /// If there is none of that name.
    pub fn size(&self, case: &str, name: &str) -> usize {
        self.case(case)[name].as_u64().unwrap_or_else(|| panic!("`{case}` has no size `{name}`")) as usize
    }

    /// A tensor by full name.
    ///
    /// # Panics
    /// If there is none of that name.
    pub fn tensor(&self, name: &str) -> &Tensor {
        self.left().remove(name);
        self.tensors.get(name).unwrap_or_else(|| panic!("the golden file has no `{name}`"))
    }

    /// Names of all tensors that start with `prefix`, without it.
    pub fn names<'a>(&'a self, prefix: &str) -> impl Iterator<Item = &'a str> {
        self.tensors.keys().filter_map(move |name| name.strip_prefix(prefix))
    }

    /// An input of a case, as a variable.
    pub fn input(&self, case: &str, name: &str) -> Var {
        Var::from_tensor(self.tensor(&format!("{case}/in/{name}"))).expect("a variable")
    }

    /// Names listed under `key` in the description of a case.
    pub fn listed(&self, case: &str, key: &str) -> BTreeSet<&str> {
        self.case(case)[key].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
    }

    /// Compares the outputs with the golden ones (1e-5 of the scale) and then every gradient, of inputs and of the
    /// trainable tensors in `store` (3e-5); and that those that train are exactly those that should.
    ///
    /// # Panics
    /// At the first difference.
    #[track_caller]
    pub fn check(
        &self,
        case: &str,
        store: &GoldenStore,
        inputs: &[(&str, &Var)],
        outputs: &[(&str, Tensor)],
    ) {
        let given: BTreeSet<&str> = outputs.iter().map(|(name, _)| *name).collect();
        assert_eq!(given, self.listed(case, "outputs"), "{case}: outputs");
        let mut loss = Tensor::new(0f32, &Device::Cpu).expect("a scalar");
        for (name, found) in outputs {
            assert_close(&format!("{case}: {name}"), found, self.tensor(&format!("{case}/out/{name}")), 1e-5);
            let cotangent = self.tensor(&format!("{case}/cot/{name}"));
            loss = ((found * cotangent).and_then(|t| t.sum_all()).and_then(|t| loss + t)).expect("one shape");
        }
        let grads = loss.backward().expect("a backward");
        let (no_grad, zero_grad) = (self.listed(case, "no_grad"), self.listed(case, "zero_grad"));
        for (name, input) in inputs {
            if !no_grad.contains(format!("in/{name}").as_str()) {
                let grad = grads.get(input).unwrap_or_else(|| panic!("{case}: input {name} has no gradient"));
                let expected = self.tensor(&format!("{case}/grad_in/{name}"));
                assert_close(&format!("{case}: gradient of input {name}"), grad, expected, 3e-5);
            }
        }
        let trainable = store.with_role(Role::Trainable);
        let names: BTreeSet<&str> = trainable.iter().map(|entry| entry.name.as_str()).collect();
        assert_eq!(names, self.listed(case, "trainable"), "{case}: trainable tensors");
        for entry in &trainable {
            let name = entry.name.as_str();
            match grads.get(&entry.tensor) {
                None => assert!(no_grad.contains(name), "{case}: `{name}` has no gradient"),
                Some(_) if no_grad.contains(name) => {
                    panic!("{case}: `{name}` has a gradient, and should have none")
                }
                Some(grad) if zero_grad.contains(name) => {
                    assert_zero(&format!("{case}: gradient of {name}"), grad);
                    self.tensor(&format!("{case}/grad/{name}"));
                }
                Some(grad) => {
                    let expected = self.tensor(&format!("{case}/grad/{name}"));
                    assert_close(&format!("{case}: gradient of {name}"), grad, expected, 3e-5);
                }
            }
        }
    }
}

impl Drop for GoldenFile {
    fn drop(&mut self) {
        // A test that fails has left its comparisons unfinished.
        if !std::thread::panicking() {
            let left = self.left();
            let some: Vec<_> = left.iter().take(8).collect();
            assert!(left.is_empty(), "{} golden tensors were compared with nothing: {some:?}", left.len());
        }
    }
}
