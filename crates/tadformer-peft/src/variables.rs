//! A store's tensors for candle's optimisers.

use candle_core::{Result, Var};
use tadformer_ops::{ParamStore, Role};

/// The trainable tensors of `store`, in the order in which its layers asked for them: what an optimiser of candle-nn
/// takes.
///
/// ```
/// use candle_nn::{AdamW, Optimizer, ParamsAdamW};
/// use tadformer_peft::{Init, ParamStore, variables};
///
/// let store = ParamStore::new(0);
/// store.params().pp("layer").trainable("weight", (2, 3), Init::ONES)?;
/// store.params().pp("layer").frozen("base", (2, 3), Init::ONES)?;
/// let optimizer = AdamW::new(variables(&store)?, ParamsAdamW::default())?;
/// # assert_eq!(variables(&store)?.len(), 1);
/// # Ok::<(), candle_core::Error>(())
/// ```
///
/// # Errors
/// None in practice: trainable tensors are variables already, and these are handles to the same memory.
pub fn variables(store: &ParamStore) -> Result<Vec<Var>> {
    store.with_role(Role::Trainable).iter().map(|entry| Var::from_tensor(&entry.tensor)).collect()
}
