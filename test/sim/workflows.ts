// Random workflows: directed graphs with everything that decides, repeats, fails and times out.
import type { Json, JsonObject } from '../../src/base/json.ts'
import type { Bound } from '../../src/domain/agents/bound.ts'
import { failureOfProblems } from '../../src/domain/failure.ts'
import { readTool } from '../../src/domain/kinds/tool.ts'
import { compileWorkflow } from '../../src/domain/manifest.ts'
import type { Definition } from '../../src/domain/workflow.ts'
import type { Dice } from './dice.ts'

/** Functions of the scripted workers; the name tells how an attempt ends. */
const FUNCTIONS = ['m.quick', 'm.quick', 'm.slow', 'm.flaky', 'm.broken', 'm.lists', 'm.hangs'] as const

/** `waits`: also with steps that wait in rows, joins of any and loops. Without it a seed draws what it always drew. */
export function randomWorkflow(
  dice: Dice,
  name: string,
  { waits, agents }: { waits: boolean; agents: boolean },
): Definition {
  const size = dice.int(1, 8)
  const steps = Array.from({ length: size }, (_, i) => randomStep(dice, i, waits))
  if (waits && dice.chance(0.5)) steps.push(...randomRing(dice, size))
  // What takes turns stays as it is: its ways and conditions belong together.
  if (agents)
    for (const [i, step] of steps.slice(0, size).entries()) if (dice.chance(0.6)) steps[i] = ofAgent(dice, step)
  const compiled = compileWorkflow({
    apiVersion: 'orrery.dev/v1',
    kind: 'Workflow',
    metadata: { name },
    spec: { modules: { m: './m.ts' }, failFast: dice.chance(0.2), steps },
  })
  if (!compiled.ok) throw failureOfProblems(compiled.problems, `making ${name}: ${JSON.stringify(steps)}`)
  return compiled.definition
}

/** The step with the turns of an agent in place of its work. */
function ofAgent(dice: Dice, { name, needs, forEach, maxParallel, onFailure, runsOn, retry }: JsonObject): JsonObject {
  const kept = { name, needs, forEach, maxParallel, onFailure, runsOn, retry }
  const given = Object.fromEntries(Object.entries(kept).filter(([, value]) => value !== undefined)) as JsonObject // without what is not there
  return { ...given, agent: 'writer', with: { n: 1 }, ...(dice.chance(0.2) ? { timeout: '20s' } : {}) }
}

/** What steps of agents refer to. */
export const boundTo = (below: string): Bound => ({
  // What the agents do is scripted: nobody looks at a spec, and nobody waits for its endpoint to be there.
  ...{ agents: {}, mcpServers: {}, memories: {} },
  tools: { below: readTool({ type: 'workflow', description: 'Runs below.', workflow: 'below' }) },
  workflows: { below: { hash: below, inputs: null, description: null } },
})

/** A step that no worker runs. Whatever nobody decides or sends ends by itself, so that every run comes to its end. */
function randomWait(dice: Dice): JsonObject {
  const kind = dice.pick(['timer', 'timers', 'event', 'approval', 'child'])
  const time = () => dice.pick(['0s', '300ms', '2s'])
  if (kind === 'timers') return { wait: '${{ item }}', forEach: [time(), time(), time()], maxParallel: dice.int(1, 2) }
  if (kind === 'event') return { wait: { event: 'ping', timeout: dice.pick(['2s', '10s']) }, onFailure: 'continue' }
  if (kind === 'approval')
    return {
      approval: { message: 'Go on?', expires: dice.pick(['2s', '10s']), default: dice.pick(['approve', 'deny']) },
    }
  if (kind === 'child') return { workflow: 'below', forEach: [1, 2], retry: { max: 1, initial: '300ms' } }
  return { wait: time() }
}

/** Two or three steps that go round a few times, more often than they may at times, and one behind them. */
function randomRing(dice: Dice, before: number): JsonObject[] {
  const work = (): JsonObject =>
    dice.chance(0.3)
      ? { wait: dice.pick(['0s', '300ms']) }
      : { function: dice.pick(['m.quick', 'm.quick', 'm.flaky']), retry: { max: 2, initial: '300ms' }, timeout: '2s' }
  const needs = before > 0 && dice.chance(0.5) ? [`s${dice.int(0, before - 1)}`] : []
  const back = { step: 'r0', if: `turn.index < ${dice.int(0, 3)}` }
  const more = dice.chance(0.5)
  return [
    { name: 'r0', ...work(), needs, next: ['r1', ...(more ? ['r2'] : [])], maxTurns: dice.int(2, 4) },
    {
      name: 'r1',
      ...work(),
      next: [back, ...(more ? [{ step: 'r2', if: "steps.r0.state == 'succeeded'" }] : [])],
      maxTurns: 4,
      onFailure: dice.pick(['fail', 'continue']),
    },
    ...(more ? [{ name: 'r2', ...work(), ...(dice.chance(0.3) ? { if: 'turn.index > 0' } : {}) }] : []),
    { name: 'behind', function: 'm.quick', needs: ['r1'], with: { from: '${{ steps.r1.output }}' } },
  ]
}

/** What steps run below them. */
export function workflowBelow(): Definition {
  const compiled = compileWorkflow({
    apiVersion: 'orrery.dev/v1',
    kind: 'Workflow',
    metadata: { name: 'below' },
    spec: {
      modules: { m: './m.ts' },
      steps: [
        { name: 's0', function: 'm.quick' },
        { name: 's1', needs: ['s0'], wait: '300ms' },
      ],
    },
  })
  if (!compiled.ok) throw failureOfProblems(compiled.problems, 'making the workflow below')
  return compiled.definition
}

function randomStep(dice: Dice, index: number, waits: boolean): JsonObject {
  const needs = Array.from({ length: index }, (_, i) => `s${i}`).filter(() => dice.chance(index < 3 ? 0.6 : 0.35))
  const step: { [key: string]: Json } = { name: `s${index}`, needs }
  const parked = waits && dice.chance(0.2) ? randomWait(dice) : null
  const some =
    waits && needs.length > 1 && dice.chance(0.2) ? { join: 'any', rest: dice.pick(['finish', 'cancel']) } : {}
  if (parked) return { ...step, ...parked, ...some }
  Object.assign(step, some)
  const isCommand = dice.chance(0.3)
  if (isCommand) step['command'] = [dice.pick(['true', 'sleep', 'flaky'])]
  else {
    step['function'] = dice.chance(0.55) ? 'm.quick' : dice.pick(FUNCTIONS)
    step['with'] = { n: index }
  }
  const from = needs[0]
  if (dice.chance(0.2))
    step['if'] = from && dice.chance(0.5) ? `\${{ steps.${from}.state == 'succeeded' }}` : String(dice.chance(0.7))
  if (waits && dice.chance(0.08)) step['loop'] = { until: `turn.index >= ${dice.int(0, 2)}`, max: 2 }
  else if (dice.chance(0.25)) {
    step['forEach'] = Array.from({ length: dice.int(0, 4) }, (_, i) => i)
    if (dice.chance(0.6)) step['maxParallel'] = dice.int(1, 2)
  }
  if (!isCommand && from && dice.chance(0.3)) step['with'] = { from: `\${{ steps.${from}.output }}` }
  if (dice.chance(0.5))
    step['retry'] = { max: dice.int(1, 2), initial: '300ms', maxDelay: '2s', factor: 2, jitter: dice.pick([0, 0.5]) }
  if (dice.chance(0.6) || step['function'] === 'm.hangs') step['timeout'] = dice.pick(['500ms', '2s'])
  if (dice.chance(0.1)) step['queueTimeout'] = dice.pick(['1s', '10s'])
  if (dice.chance(0.2)) step['onFailure'] = 'continue'
  if (dice.chance(0.2)) step['runsOn'] = { zone: dice.pick(['a', 'b']) }
  return step
}
