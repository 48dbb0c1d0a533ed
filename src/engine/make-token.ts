import type { Random } from '../base/random.ts'

/** A token: 256 bits, with a prefix that secret scanners can know. */
export const makeToken = (random: Random): string => `orr_${Buffer.from(random.bytes(32)).toString('base64url')}`
