//! What the program carries: a network, pictures for it, and names of classes. The READMEs beside the files say
//! where they come from.

/// EfficientNet-Lite0 with weights of 4 bits in blocks of 32, labels and preprocessing.
pub(crate) const EFFICIENTNET_LITE0: &[u8] =
    include_bytes!("../models/efficientnet-lite0-i4.safetensors");

/// Free pictures, with their names.
pub(crate) const PICTURES: [(&str, &[u8]); 4] = [
    ("astronaut", include_bytes!("../pictures/astronaut.jpg")),
    ("chelsea", include_bytes!("../pictures/chelsea.jpg")),
    ("coffee", include_bytes!("../pictures/coffee.jpg")),
    ("rocket", include_bytes!("../pictures/rocket.jpg")),
];

/// The classes of COCO, one a line.
pub(crate) const COCO: &str = include_str!("../models/coco.txt");
