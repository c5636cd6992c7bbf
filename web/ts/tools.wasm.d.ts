// What bundlers make of the module's file: its address.
declare const address: string;
export default address;
