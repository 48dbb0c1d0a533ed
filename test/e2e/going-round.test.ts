// A graph that goes round, on a server, as somebody types it.
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { eventually } from '../support/eventually.ts'
import { expectNoProcessLeft, type OrreryProcess, runOrrery, startOrrery } from '../support/processes.ts'

const FLOW = `apiVersion: orrery.dev/v1
kind: Workflow
metadata: { name: count }
spec:
  maxTurns: 2
  steps:
    - name: add
      command: ['sh', '-c', 'printf %s $(($1 + 1)) > "$ORRERY_OUTPUT"', add, '\${{ turn.index == 0 ? 0 : steps.add.output }}']
      next: look
    - name: look
      command: ['true']
      next:
        - { step: add, if: '\${{ steps.add.output < 3 }}' }
    - name: tell
      needs: [look]
      command: ['echo', 'counted to \${{ steps.add.output }}']
`

describe('a graph that goes round', () => {
  let home = ''
  let up: OrreryProcess
  const orrery = (...args: string[]) => runOrrery(args, { env: { ORRERY_DATA_DIR: join(home, 'data') }, cwd: home })
  const show = async (id: string) =>
    JSON.parse((await orrery('runs', 'show', id, '--json')).stdout) as { state: string }
  const reaches = (id: string, state: string) =>
    eventually(async () => (await show(id)).state === state, { withinMs: 30_000, what: `${id} ${state}` })

  beforeAll(async () => {
    home = await mkdtemp(join(tmpdir(), 'orrery-e2e-'))
    await writeFile(join(home, 'count.yaml'), FLOW)
    up = startOrrery(['up', '--port', '0'], { env: { ORRERY_DATA_DIR: join(home, 'data') }, cwd: home })
    await up.waitFor(/orrery is up/, { withinMs: 50_000 })
  })
  afterAll(async () => {
    await up.stop()
    await expectNoProcessLeft()
    await rm(home, { recursive: true, force: true })
  })

  test('is planned, fails when its turns are used up, and after a retry goes on where it stopped', async () => {
    const planned = await orrery('plan', 'count.yaml')
    expect(planned.stdout).toMatch(/add .*at most 2 turns, then look/)
    const started = await orrery('run', 'count.yaml', '--detach')
    expect(started, started.stderr).toMatchObject({ code: 0 })
    const id = started.stdout.trim()
    await reaches(id, 'failed')
    const failed = await orrery('runs', 'show', id)
    expect(failed.stdout).toContain('turns.used_up')
    expect(failed.stdout).toMatch(/look +blocked/)
    expect(await orrery('runs', 'retry', id)).toMatchObject({ code: 0 })
    await reaches(id, 'succeeded')
    await eventually(async () => (await orrery('runs', 'logs', id)).stdout.includes('counted to 3'), {
      withinMs: 20_000,
    })
    const steps = await orrery('runs', 'show', id, '--json')
    expect(JSON.parse(steps.stdout)).toMatchObject({
      stepList: [
        { name: 'add', output: 3, activations: { total: 3, succeeded: 3, failed: 0 } },
        { name: 'look', activations: { total: 3 } },
        { name: 'tell', state: 'succeeded' },
      ],
    })
  })
})
