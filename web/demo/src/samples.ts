// The sample pictures and the models that come with the page.
import astronaut from "../../../cli/pictures/astronaut.jpg";
import chelsea from "../../../cli/pictures/chelsea.jpg";
import coffee from "../../../cli/pictures/coffee.jpg";
import rocket from "../../../cli/pictures/rocket.jpg";
import i25 from "../models/efficientnet-lite0-i2.5.safetensors";
import i25Size from "../models/efficientnet-lite0-i2.5.safetensors?size";
import i3 from "../models/efficientnet-lite0-i3.safetensors";
import i3Size from "../models/efficientnet-lite0-i3.safetensors?size";
import i4 from "../../../cli/models/efficientnet-lite0-i4.safetensors";
import i4Size from "../../../cli/models/efficientnet-lite0-i4.safetensors?size";
import i5 from "../models/efficientnet-lite0-i5.safetensors";
import i5Size from "../models/efficientnet-lite0-i5.safetensors?size";
import i8 from "../models/efficientnet-lite0-i8.safetensors";
import i8Size from "../models/efficientnet-lite0-i8.safetensors?size";
import recorded from "./recorded.json";

/** The pictures to click, those of the command's demo. */
export const PICTURES = [
  { id: "chelsea", name: "Chelsea", url: chelsea, alt: "A cat that looks into the camera" },
  { id: "coffee", name: "Coffee", url: coffee, alt: "A cup of espresso on a saucer with a spoon" },
  { id: "astronaut", name: "Astronaut", url: astronaut, alt: "An astronaut in an orange suit before a flag" },
  { id: "rocket", name: "Rocket", url: rocket, alt: "A rocket on its launch pad at night" },
] as const;

/** EfficientNet-Lite0 in integers. */
export const MODELS = [
  { bits: 8, url: i8, size: i8Size },
  { bits: 5, url: i5, size: i5Size },
  { bits: 4, url: i4, size: i4Size },
  { bits: 3, url: i3, size: i3Size },
  { bits: 2.5, url: i25, size: i25Size },
] as const;

/** The same network in floats: bytes of its ONNX file, which is too large to fetch for a glance. */
export const FLOAT_SIZE = 18_805_431;

/** Its five likeliest classes for a sample, with their scores: what `dsconv classify` says of the ONNX file. */
export function recordedFloats(id: string): [index: number, score: number][] | undefined {
  return (recorded as Record<string, number[][]>)[id]?.map(([index, score]) => [index!, score!]);
}
