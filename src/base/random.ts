import { randomBytes } from 'node:crypto'

/** Dice. Injected, so that one seed replays one history. */
export interface Random {
  /** A number in [0, 1). */
  next(): number
  /** `size` random bytes. */
  bytes(size: number): Uint8Array
}

const POOL_BYTES = 8192
let pool = Buffer.alloc(0)
let used = 0

/** The system's dice; bytes come from a pool, because one system call an id would cost more than the id. */
export const systemRandom: Random = {
  next: () => Math.random(),
  bytes: (size) => {
    if (size > POOL_BYTES) return randomBytes(size)
    if (used + size > pool.length) {
      pool = randomBytes(POOL_BYTES)
      used = 0
    }
    const out = pool.subarray(used, used + size)
    used += size
    return out
  },
}

/** Deterministic dice (mulberry32) for simulations and tests. */
export function seededRandom(seed: number): Random {
  let a = seed >>> 0
  const next = () => {
    a = (a + 0x6d2b79f5) >>> 0
    let t = a
    t = Math.imul(t ^ (t >>> 15), t | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296
  }
  return {
    next,
    bytes: (size) => Uint8Array.from({ length: size }, () => Math.floor(next() * 256)),
  }
}
