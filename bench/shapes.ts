import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { closedLoop, msSince, nowNs, statsOf } from './http.ts'
import { type Rig, workflow } from './rig.ts'

export type Row = { shape: string } & Record<string, unknown>

interface RunAnswer {
  id: string
  state: string
  stepList: { name: string; output: unknown }[]
}

const WAIT = { prefer: 'wait=60' }

async function runWhole(rig: Rig, definition: string, inputs: object = {}): Promise<RunAnswer> {
  const run = await rig.http.ask<RunAnswer>('POST', '/v1/runs', { definition, inputs }, WAIT)
  if (run.state !== 'succeeded') throw new Error(`run ${run.id} is ${run.state}`)
  return run
}

async function stampsOf(rig: Rig, runId: string): Promise<number[]> {
  const stamps: number[] = []
  let cursor: string | null = ''
  while (cursor !== null) {
    const page: { items: { output: unknown }[]; next: string | null } = await rig.http.ask(
      'GET',
      `/v1/runs/${runId}/steps?limit=500${cursor === '' ? '' : `&cursor=${cursor}`}`,
    )
    for (const step of page.items) {
      const at = typeof step.output === 'string' ? step.output : (step.output as { at: string } | null)?.at
      if (at) stamps.push(Number(BigInt(at)) / 1e6)
    }
    cursor = page.next
  }
  return stamps.sort((a, b) => a - b)
}

/** Idle: one at a time after a random pause; from sending the request to the function's first line. */
export async function idleStart(rig: Rig, n: number): Promise<Row> {
  const definition = await rig.put(workflow('idle', [{ name: 's', function: 'bench.stamp' }]))
  const values: number[] = []
  for (let i = 0; i < n + 20; i++) {
    await sleep(20 + ((i * 37) % 40))
    const sent = Number(nowNs()) / 1e6
    const run = await runWhole(rig, definition)
    const began = Number(BigInt(run.stepList[0]?.output as string)) / 1e6
    if (i >= 20) values.push(began - sent)
  }
  return { shape: 'idle start', ms: statsOf(values) }
}

const three = [
  { name: 'a', function: 'bench.noop' },
  { name: 'b', function: 'bench.noop', needs: ['a'] },
  { name: 'c', function: 'bench.noop', needs: ['b'] },
]

export async function threeStep(rig: Rig, n: number, inflight: number): Promise<Row> {
  const definition = await rig.put(workflow('three', three))
  await closedLoop(Math.max(50, inflight * 4), inflight, () => runWhole(rig, definition).then(() => {}))
  return {
    shape: `3-step, ${inflight} in flight`,
    ...(await closedLoop(n, inflight, () => runWhole(rig, definition).then(() => {}))),
  }
}

/** What a server that has been up for a minute has behind it: compiled code and prepared statements. Not counted. */
export async function warmUp(rig: Rig): Promise<void> {
  const definition = await rig.put(workflow('warm', three))
  await closedLoop(2_000, 10, () => runWhole(rig, definition).then(() => {}))
  await closedLoop(500, 1, () => runWhole(rig, definition).then(() => {}))
}

async function untilAllEnded(rig: Rig, workflowName: string, ids: readonly string[]): Promise<void> {
  for (;;) {
    const live = await rig.http.ask<{ items: unknown[] }>(
      'GET',
      `/v1/runs?workflow=${workflowName}&state=pending&state=running&state=waiting&limit=1`,
    )
    if (live.items.length === 0) break
    await sleep(20) // asking costs both sides, and an answer late by this much changes nothing
  }
  // One by one at the edges: the list must not have been empty for another reason.
  for (const id of [ids[0], ids[Math.floor(ids.length / 2)], ids.at(-1)]) {
    const run = await rig.http.ask<RunAnswer>('GET', `/v1/runs/${id}`)
    if (run.state !== 'succeeded') throw new Error(`run ${id} is ${run.state}`)
  }
}

export async function bulk(rig: Rig, n: number): Promise<Row> {
  const definition = await rig.put(workflow('bulk', [{ name: 's', function: 'bench.noop' }]))
  const begin = nowNs()
  const ids: string[] = []
  const size = 1000
  await closedLoop(n / size, 2, async () => {
    const answer = await rig.http.ask<{ ids: string[] }>('POST', '/v1/runs:bulk', {
      definition,
      items: Array.from({ length: size }, () => ({})),
    })
    ids.push(...answer.ids)
  })
  const created = msSince(begin)
  await untilAllEnded(rig, 'bulk', ids)
  const ms = msSince(begin)
  return {
    shape: `${n} one-step runs, bulk`,
    createPerSecond: Math.round(n / (created / 1000)),
    perSecond: Math.round(n / (ms / 1000)),
  }
}

export async function single(rig: Rig, n: number, inflight: number): Promise<Row> {
  const definition = await rig.put(workflow('single', [{ name: 's', function: 'bench.noop' }]))
  const ids: string[] = []
  const begin = nowNs()
  await closedLoop(n, inflight, async () => {
    ids.push((await rig.http.ask<{ id: string }>('POST', '/v1/runs', { definition, inputs: {} })).id)
  })
  const created = msSince(begin)
  await untilAllEnded(rig, 'single', ids)
  const ms = msSince(begin)
  return {
    shape: `${n} one-step runs, one POST each`,
    createPerSecond: Math.round(n / (created / 1000)),
    perSecond: Math.round(n / (ms / 1000)),
  }
}

export async function chain(rig: Rig, n: number): Promise<Row> {
  const steps = Array.from({ length: n }, (_, i) => ({
    name: `s${i}`,
    function: 'bench.stamp',
    ...(i > 0 ? { needs: [`s${i - 1}`] } : {}),
  }))
  const definition = await rig.put(workflow(`chain-${n}`, steps))
  const begin = nowNs()
  const run = await runWhole(rig, definition)
  const total = msSince(begin)
  const stamps = await stampsOf(rig, run.id)
  const gaps = stamps.slice(1).map((t, i) => t - (stamps[i] ?? t))
  const tenth = Math.max(20, Math.floor(n / 10))
  const median = (values: number[]) => statsOf(values).p50
  const first = median(gaps.slice(0, tenth))
  const last = median(gaps.slice(-tenth))
  return {
    shape: `chain of ${n}`,
    totalMs: Math.round(total),
    gapMs: statsOf(gaps),
    firstTenth: first,
    lastTenth: last,
    lastOverFirst: Number((last / first).toFixed(3)),
  }
}

export async function fanOut(rig: Rig, n: number): Promise<Row> {
  const definition = await rig.put(
    workflow('fan', [
      { name: 'each', forEach: '${{ inputs.items }}', function: 'bench.noop' },
      { name: 'join', needs: ['each'], function: 'bench.noop' },
    ]),
  )
  const items = Array.from({ length: n }, (_, i) => i)
  const begin = nowNs()
  await runWhole(rig, definition, { items })
  return { shape: `fan-out of ${n} and join`, seconds: Number((msSince(begin) / 1000).toFixed(3)) }
}

export async function fibo(rig: Rig, steps: number, n: number): Promise<Row> {
  const definition = await rig.put(
    workflow(
      `fibo-${steps}-${n}`,
      Array.from({ length: steps }, (_, i) => ({
        name: `s${i}`,
        function: 'bench.fibonacci',
        with: { n },
        ...(i > 0 ? { needs: [`s${i - 1}`] } : {}),
      })),
    ),
  )
  await runWhole(rig, definition)
  const values: number[] = []
  for (let i = 0; i < 10; i++) {
    const begin = nowNs()
    await runWhole(rig, definition)
    values.push(msSince(begin))
  }
  return { shape: `flow of ${steps} x fibo(${n})`, ms: statsOf(values) }
}

/** kill -9 of the worker in the middle of a step, a second one standing by: from the kill to the step's next start. */
export async function recovery(rig: Rig): Promise<Row> {
  // One of its own for each round.
  const file = join(rig.directory, `recovery-${nowNs()}.txt`)
  const definition = await rig.put(
    workflow('recovery', [{ name: 's', function: 'bench.slow', with: { file, ms: 60_000 } }]),
  )
  const created = await rig.http.ask<{ id: string }>('POST', '/v1/runs', { definition, inputs: {} })
  const lines = () => {
    try {
      return readFileSync(file, 'utf8').trim().split('\n')
    } catch {
      return []
    }
  }
  while (lines().length < 1) await sleep(5)
  const pid = Number(lines()[0]?.split(' ')[0])
  const victim = rig.workers.find((w) => w.pid === pid)
  await rig.addWorker()
  await sleep(500)
  const at = Number(nowNs()) / 1e6
  victim?.kill('SIGKILL')
  while (lines().length < 2) await sleep(2)
  const again = Number(BigInt(lines()[1]?.split(' ')[1] ?? '0')) / 1e6
  await rig.http.ask('POST', `/v1/runs/${created.id}:cancel`)
  return { shape: 'recovery after kill -9 of a worker', seconds: Number(((again - at) / 1000).toFixed(3)) }
}
