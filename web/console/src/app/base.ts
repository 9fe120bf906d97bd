/** The service's address with a slash at its end, whatever it is mounted below: the scripts are in `assets/` there. */
export const BASE = new URL(/* @vite-ignore */ "..", import.meta.url).href;
