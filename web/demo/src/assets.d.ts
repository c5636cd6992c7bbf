declare module "*.safetensors" {
  const url: string;
  export default url;
}

/** The file's bytes: vite.config.ts counts them. */
declare module "*.safetensors?size" {
  const bytes: number;
  export default bytes;
}
