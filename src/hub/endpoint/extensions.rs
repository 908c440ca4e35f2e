//! Values that APIs keep between requests, one for each type, so that the hub's handle need not know the types.

use std::{
    any::{Any, TypeId},
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

/// A map from a type to one value of it. A missing value is made by the type's `Default`.
#[derive(Default)]
pub(super) struct Extensions {
    /// There are few: a linear search is quicker than a hash.
    values: RwLock<Vec<(TypeId, Arc<dyn Any + Send + Sync>)>>,
}

impl Extensions {
    /// The value of this type, made now if it is missing.
    pub(super) fn get<T: Any + Send + Sync + Default>(&self) -> Arc<T> {
        match self.find() {
            Some(value) => value,
            None => self.put_if_absent(T::default()),
        }
    }

    /// Replaces the value of this type.
    pub(super) fn put<T: Any + Send + Sync>(&self, value: T) {
        let mut values = self.values.write().unwrap_or_else(PoisonError::into_inner);
        values.retain(|(id, _)| *id != TypeId::of::<T>());
        values.push((TypeId::of::<T>(), Arc::new(value)));
    }

    fn find<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        find(&self.values.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// If another thread has put a value in meanwhile, that value stays.
    fn put_if_absent<T: Any + Send + Sync>(&self, value: T) -> Arc<T> {
        let mut values = self.values.write().unwrap_or_else(PoisonError::into_inner);
        find(&values).unwrap_or_else(|| {
            let value = Arc::new(value);
            values.push((TypeId::of::<T>(), Arc::clone(&value) as Arc<dyn Any + Send + Sync>));
            value
        })
    }
}

fn find<T: Any + Send + Sync>(values: &[(TypeId, Arc<dyn Any + Send + Sync>)]) -> Option<Arc<T>> {
    let (_, value) = values.iter().find(|(id, _)| *id == TypeId::of::<T>())?;
    Arc::clone(value).downcast().ok()
}

impl fmt::Debug for Extensions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Extensions").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_type_has_one_value() {
        let extensions = Extensions::default();
        assert_eq!((*extensions.get::<u32>(), extensions.get::<String>().as_str()), (0, ""));
        extensions.put(7_u32);
        extensions.put("a".to_owned());
        extensions.put(8_u32);
        assert_eq!((*extensions.get::<u32>(), extensions.get::<String>().as_str()), (8, "a"));
        assert!(Arc::ptr_eq(&extensions.get::<String>(), &extensions.get::<String>()));
    }
}
