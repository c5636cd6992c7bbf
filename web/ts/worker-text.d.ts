/** The text of the worker, which web/build writes. */
declare const text: string;
export default text;
