// The sample pictures and the models that come with the page.
import astronaut from "../../../cli/pictures/astronaut.jpg";
import chelsea from "../../../cli/pictures/chelsea.jpg";
import coffee from "../../../cli/pictures/coffee.jpg";
import rocket from "../../../cli/pictures/rocket.jpg";
import i3 from "../models/efficientnet-lite0-i3.safetensors";
import i4 from "../../../cli/models/efficientnet-lite0-i4.safetensors";
import i5 from "../models/efficientnet-lite0-i5.safetensors";
import i8 from "../models/efficientnet-lite0-i8.safetensors";

/** The pictures to click, those of the command's demo. */
export const PICTURES = [
  { name: "Chelsea", url: chelsea, alt: "A cat that looks into the camera" },
  { name: "Coffee", url: coffee, alt: "A cup of espresso on a saucer with a spoon" },
  { name: "Astronaut", url: astronaut, alt: "An astronaut in an orange suit before a flag" },
  { name: "Rocket", url: rocket, alt: "A rocket on its launch pad at night" },
] as const;

/** EfficientNet-Lite0 in integers. */
export const MODELS = [
  { bits: 8, url: i8 },
  { bits: 5, url: i5 },
  { bits: 4, url: i4 },
  { bits: 3, url: i3 },
] as const;
