//! The one loop that runs on all cores, where the feature `parallel` brings rayon.

/// What `make` gives for each number below `count`, in their order.
pub(crate) fn map<T: Send>(count: usize, make: impl Fn(usize) -> T + Send + Sync) -> Vec<T> {
    #[cfg(feature = "parallel")]
    {
        use rayon::prelude::*;
        (0..count).into_par_iter().map(make).collect()
    }
    #[cfg(not(feature = "parallel"))]
    (0..count).map(make).collect()
}
