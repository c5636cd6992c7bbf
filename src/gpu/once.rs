//! Values that are made once for each key, while those of other keys can be had.

use crate::Result;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// Values that are made at their first use, once for each key.
///
/// No lock on the map is held while a value is made: a thread that wants it waits, and one that wants another goes on.
#[derive(Debug)]
pub(crate) struct OnceMap<K, V> {
    slots: Mutex<HashMap<K, Arc<Slot<V>>>>,
}

#[derive(Debug)]
struct Slot<V> {
    value: OnceLock<V>,
    /// Held while the value is made.
    making: Mutex<()>,
}

impl<K, V> Default for OnceMap<K, V> {
    fn default() -> Self {
        Self { slots: Mutex::default() }
    }
}

impl<K: Eq + Hash, V: Clone> OnceMap<K, V> {
    /// The value of a key, which `make` makes where there is none yet. A failure leaves none, and the next call tries
    /// again.
    pub(crate) fn get_or_make(&self, key: K, make: impl FnOnce() -> Result<V>) -> Result<V> {
        let new = || Arc::new(Slot { value: OnceLock::new(), making: Mutex::new(()) });
        let slot = lock(&self.slots).entry(key).or_insert_with(new).clone();
        if let Some(value) = slot.value.get() {
            return Ok(value.clone());
        }
        let _making = lock(&slot.making);
        if let Some(value) = slot.value.get() {
            return Ok(value.clone());
        }
        let value = make()?;
        Ok(slot.value.get_or_init(|| value).clone())
    }

    /// The number of values that have been made.
    pub(crate) fn made(&self) -> usize {
        lock(&self.slots).values().filter(|slot| slot.value.get().is_some()).count()
    }
}

/// A poisoned lock guards what is still whole: a map, or nothing.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Error;
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    #[test]
    fn a_value_in_the_making_keeps_nobody_from_the_others() {
        let map = OnceMap::<&str, u32>::default();
        assert_eq!(map.get_or_make("made", || Ok(1)).unwrap(), 1);
        // Two meetings: it has begun, and it may end.
        let meeting = Barrier::new(2);
        let calls = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            let slow = scope.spawn(|| {
                map.get_or_make("slow", || {
                    calls.fetch_add(1, SeqCst);
                    meeting.wait();
                    meeting.wait();
                    Ok(2)
                })
            });
            meeting.wait();
            // These would hang if a lock on the map were held.
            assert_eq!(map.get_or_make("made", || panic!("it is made")).unwrap(), 1);
            assert_eq!(map.get_or_make("other", || Ok(3)).unwrap(), 3);
            assert_eq!(map.made(), 2);
            // The same one is waited for, and made once.
            let waiting = scope.spawn(|| {
                map.get_or_make("slow", || {
                    calls.fetch_add(1, SeqCst);
                    Ok(4)
                })
            });
            meeting.wait();
            assert_eq!(slow.join().unwrap().unwrap(), 2);
            assert_eq!(waiting.join().unwrap().unwrap(), 2);
        });
        assert_eq!((calls.into_inner(), map.made()), (1, 3));
    }

    #[test]
    fn what_fails_or_panics_is_tried_again() {
        let map = OnceMap::<u8, u32>::default();
        let failed = map.get_or_make(0, || Err(Error::DeviceLost("gone".into())));
        assert!(matches!(failed, Err(Error::DeviceLost(_))), "{failed:?}");
        let panicking =
            std::panic::AssertUnwindSafe(|| map.get_or_make(0, || panic!("on purpose")));
        assert!(std::panic::catch_unwind(panicking).is_err());
        assert_eq!(map.made(), 0);
        assert_eq!(map.get_or_make(0, || Ok(5)).unwrap(), 5);
    }
}
