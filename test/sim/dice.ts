import { type Random, seededRandom } from '../../src/base/index.ts'

/** Seeded dice with what a scheduler asks of them. */
export class Dice {
  readonly random: Random

  constructor(seed: number) {
    this.random = seededRandom(seed)
  }

  chance(p: number): boolean {
    return this.random.next() < p
  }

  /** From `low` up to and with `high`. */
  int(low: number, high: number): number {
    return low + Math.floor(this.random.next() * (high - low + 1))
  }

  pick<T>(from: readonly [T, ...T[]]): T {
    return from[this.int(0, from.length - 1)] ?? from[0]
  }

  /** Null when there is nothing to choose from. */
  any<T>(from: readonly T[]): T | null {
    return from[this.int(0, from.length - 1)] ?? null
  }

  shuffle<T>(items: T[]): T[] {
    const left = [...items]
    const out: T[] = []
    while (left.length > 0) out.push(...left.splice(this.int(0, left.length - 1), 1))
    return out
  }
}
