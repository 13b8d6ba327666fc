/** When a sequence ends. */

/** stop: an end token or a stop string. length: the token limit. cancelled: the caller left. */
export type FinishReason = 'stop' | 'length' | 'cancelled';
