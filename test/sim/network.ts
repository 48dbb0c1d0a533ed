// What lies between workers and servers: requests and replies that are late, lost, doubled and overtaken.
import type { Dice } from './dice.ts'

export interface Weather {
  lossChance: number
  doubleChance: number
  lateChance: number
}

export const CALM: Weather = { lossChance: 0, doubleChance: 0, lateChance: 0 }

interface Delivery {
  at: number
  order: number
  run: () => void
}

export class Network {
  weather: Weather = CALM
  readonly #dice: Dice
  readonly #now: () => number
  #waiting: Delivery[] = []
  #order = 0

  constructor(dice: Dice, now: () => number) {
    this.#dice = dice
    this.#now = now
  }

  /**
   * Carries a request to `serve` and its answer back to `onReply`. Either may be lost: most often the connection breaks, which
   * the sender sees; else it has only its time-out. A doubled request is served twice, and both answers come back.
   */
  send<R>(serve: () => Promise<R>, onReply: (reply: { ok: R } | { error: unknown }) => void): void {
    const copies = this.#dice.chance(this.weather.doubleChance) ? 2 : 1
    for (let copy = 0; copy < copies; copy++) {
      if (this.#dice.chance(this.weather.lossChance)) {
        this.#broken(onReply)
        continue
      }
      const isReplyLost = this.#dice.chance(this.weather.lossChance)
      const replyDelay = this.#delay()
      const back = (reply: { ok: R } | { error: unknown }) => {
        if (isReplyLost) this.#broken(onReply)
        else this.#carry(replyDelay, () => onReply(reply))
      }
      this.#carry(this.#delay(), () => {
        serve().then(
          (ok) => back({ ok }),
          (error: unknown) => back({ error }),
        )
      })
    }
  }

  #broken(onReply: (reply: { error: unknown }) => void): void {
    if (this.#dice.chance(0.7)) this.#carry(this.#delay(), () => onReply({ error: new Error('connection broken') }))
  }

  #delay(): number {
    if (this.weather === CALM) return 0
    return this.#dice.chance(this.weather.lateChance) ? this.#dice.int(300, 6_000) : this.#dice.int(0, 30)
  }

  #carry(delay: number, run: () => void): void {
    this.#waiting.push({ at: this.#now() + delay, order: this.#order++, run })
  }

  /** What has arrived by now, in order of arrival. */
  arrived(): (() => void)[] {
    const now = this.#now()
    const due = this.#waiting.filter((d) => d.at <= now).sort((a, b) => a.at - b.at || a.order - b.order)
    this.#waiting = this.#waiting.filter((d) => d.at > now)
    return due.map((d) => d.run)
  }
}
