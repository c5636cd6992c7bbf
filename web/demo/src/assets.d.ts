declare module "*.safetensors" {
  const url: string;
  export default url;
}
