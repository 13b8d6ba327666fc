/** What clients are told to wait where nothing says how long something takes. */
export const RETRY_MS = 1000;
