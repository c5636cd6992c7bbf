//! Device memory that is freed with its last owner.

use dsconv::gpu::Layer;
use dsconv_net::gpu::{Network, NetworkPlan};

/// An owner of device memory.
pub(crate) trait Destroy {
    /// Frees the memory at once.
    fn destroy(self);
}

impl Destroy for Layer {
    fn destroy(self) {
        Layer::destroy(self);
    }
}

impl Destroy for Network {
    fn destroy(self) {
        Network::destroy(self);
    }
}

impl Destroy for NetworkPlan {
    fn destroy(self) {
        NetworkPlan::destroy(self);
    }
}

/// Frees the device memory of its value with the last owner. The browser would do so too, but some day.
#[derive(Debug)]
pub(crate) struct Resident<T: Destroy>(Option<T>);

impl<T: Destroy> Resident<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(Some(value))
    }
}

impl<T: Destroy> Drop for Resident<T> {
    fn drop(&mut self) {
        if let Some(value) = self.0.take() {
            value.destroy();
        }
    }
}

impl<T: Destroy> std::ops::Deref for Resident<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_ref().unwrap_or_else(|| unreachable!("only Drop takes it"))
    }
}

impl<T: Destroy> std::ops::DerefMut for Resident<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.as_mut().unwrap_or_else(|| unreachable!("only Drop takes it"))
    }
}
