/** As shells count processes that a signal ended: SIGINT. */
export const CANCELLED = 130;
/** SIGTERM. */
export const LEFT = 143;
