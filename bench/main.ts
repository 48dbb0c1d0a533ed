import { appendFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { startPostgres } from '../test/support/postgres.ts'
import { startRig } from './rig.ts'
import { bulk, chain, fanOut, fibo, idleStart, recovery, type Row, single, threeStep } from './shapes.ts'

const { values } = parseArgs({
  options: {
    only: { type: 'string', default: '' },
    store: { type: 'string', default: 'postgres' },
    scale: { type: 'string', default: '1' },
    out: { type: 'string', default: '' },
    dsn: { type: 'string', default: '' },
  },
})
const scale = Number(values.scale)
const wanted = values.only === '' ? null : values.only.split(',')
const postgres = values.store === 'postgres' && values.dsn === '' ? await startPostgres() : null
const dsn = values.store !== 'postgres' ? null : values.dsn !== '' ? values.dsn : await postgres!.createDatabase('bench')
const rig = await startRig({ dsn, port: 7790, workers: 1, capacity: 500 })

const shapes: Record<string, () => Promise<Row>> = {
  idle: () => idleStart(rig, Math.round(300 * scale)),
  c1: () => threeStep(rig, Math.round(300 * scale), 1),
  c50: () => threeStep(rig, Math.round(5000 * scale), 50),
  bulk: () => bulk(rig, Math.round(20_000 * scale)),
  single: () => single(rig, Math.round(20_000 * scale), 100),
  chain1k: () => chain(rig, 1_000),
  chain10k: () => chain(rig, 10_000),
  fan: () => fanOut(rig, 10_000),
  fibo: () => fibo(rig, 40, 10),
  recovery: () => recovery(rig),
}
try {
  for (const [name, shape] of Object.entries(shapes)) {
    if (wanted && !wanted.includes(name)) continue
    const row = { at: new Date().toISOString(), node: process.version, store: values.store, ...(await shape()) }
    console.log(JSON.stringify(row))
    if (values.out !== '') appendFileSync(values.out, `${JSON.stringify(row)}\n`)
  }
} finally {
  await rig.stop()
  await postgres?.stop()
}
