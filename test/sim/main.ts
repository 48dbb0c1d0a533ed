// npm run sim -- [--seed N[,N...]] [--seeds N] [--ticks N] [--log] [--once] [--bail] [--waits] [--drains] [--agents] [--prepared DIR]
import { parseArgs } from 'node:util'
import { DEFAULT_TICKS, simulate } from './simulate.ts'
import { SimStore } from './store.ts'

const { values } = parseArgs({
  options: {
    seed: { type: 'string', default: '1' },
    seeds: { type: 'string', default: '1' },
    ticks: { type: 'string', default: String(DEFAULT_TICKS) },
    once: { type: 'boolean', default: false },
    bail: { type: 'boolean', default: false },
    prepared: { type: 'string' },
    log: { type: 'boolean', default: false },
    waits: { type: 'boolean', default: false },
    drains: { type: 'boolean', default: false },
    agents: { type: 'boolean', default: false },
  },
})
const first = values.seed.split(',').map(Number)
const more = Array.from({ length: Number(values.seeds) - 1 }, (_, i) => (first.at(-1) ?? 0) + 1 + i)
const seeds = [...first, ...more]
const ticks = Number(values.ticks)
console.log(
  `sim: seeds ${seeds.join(', ')}; ${ticks} ticks with faults each, every seed ${values.once ? 'once' : 'twice'}`,
)

const { waits, drains, agents } = values
const store = await SimStore.open(values.prepared)
let failed = 0
for (const seed of seeds) {
  const one = await simulate(store, { seed, ticks, waits, drains, agents })
  const two = one.broken === null && !values.once ? await simulate(store, { seed, ticks, waits, drains, agents }) : one
  const differs = one.lines.findIndex((line, i) => line !== two.lines[i])
  if (values.log) console.log(one.lines.join('\n'))
  const verdict = one.broken ?? (differs >= 0 ? `two logs of one seed differ at line ${differs + 1}` : null)
  if (verdict !== null) failed += 1
  console.log(
    `seed ${seed}: ${verdict === null ? 'ok' : `FAILED: ${verdict}`} (${one.runs} runs, ${one.ends} ends, ${one.entries} entries, ${one.turns} turns, ${one.lines.length} lines)`,
  )
  if (failed > 0 && values.bail) break
}
await store.close()
process.exitCode = failed === 0 ? 0 : 1
