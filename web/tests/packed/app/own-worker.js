import { use } from "./use.js";

use().then(
  (result) => postMessage(result),
  (error) => postMessage({ error: String(error) }),
);
