// One file, twice: by an engine inside the command and by a server with two workers on PostgreSQL. What happened must be the same.
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { RunEvent } from '../../src/contract/api-types.ts'
import { expectNoProcessLeft, type OrreryProcess, runOrrery, startOrrery } from '../support/processes.ts'
import { describeWithPostgres } from '../support/shared-postgres.ts'

const FUNCTIONS = `
export const list = (input) => input.items
export const double = (input) => ({ value: input.value * 2 })
export const fails = () => { throw new Error('on purpose') }
export const second = (input, context) => { if (context.tries === 0) throw new Error('the first try'); return context.tries }
`

const FLOW = `apiVersion: orrery.dev/v1
kind: Workflow
metadata: { name: equal }
spec:
  modules: { m: ./m.mjs }
  inputs: { type: object, properties: { items: { type: array, default: [1, 2, 3, 4, 5] } } }
  steps:
    - { name: items, function: m.list, with: { items: '\${{ inputs.items }}' } }
    - { name: double, needs: [items], forEach: '\${{ steps.items.output }}', maxParallel: 2, function: m.double, with: { value: '\${{ item }}' } }
    - { name: none, needs: [items], forEach: [], function: m.double, with: { value: 1 } }
    - { name: retried, needs: [items], function: m.second, retry: { max: 2, initial: 10ms } }
    - { name: kept, needs: [items], function: m.fails, onFailure: continue }
    - { name: shell, needs: [retried], command: [sh, -c, 'echo one; echo two >&2; printf "{\\"n\\": 3}" > "$ORRERY_OUTPUT"'] }
    - { name: left, needs: [shell], if: steps.shell.output.n > 5, command: ['true'] }
    - { name: join, needs: [double, none, kept, left], function: m.double, with: { value: '\${{ size(steps.double.output) }}' } }
    - { name: breaks, needs: [join], command: [sh, -c, 'exit 7'] }
    - { name: after, needs: [breaks], command: ['true'] }
`

/** What happened to each, in its order. Ids, times and who did it are left out; how steps that do not wait for each other mingle is chance. */
function storyOf(events: readonly Pick<RunEvent, 'changes'>[]): Record<string, string[]> {
  const story: Record<string, string[]> = {}
  for (const { changes } of events) {
    for (const { of, to, fence, code, note } of changes) {
      const told = [to, fence, code, note].filter((part) => part !== undefined).join(' ')
      story[of] = [...(story[of] ?? []), told]
    }
  }
  return story
}

describeWithPostgres('the same file on the embedded store and on PostgreSQL', (pg) => {
  let home = ''
  let server: OrreryProcess
  const workers: OrreryProcess[] = []
  const env = {
    ORRERY_ADMIN_TOKEN: 'equal-admin-token-0123456789',
    ORRERY_WORKER_TOKEN: 'equal-worker-token-0123456789',
  }
  let address = ''

  beforeAll(async () => {
    home = await mkdtemp(join(tmpdir(), 'orrery-equal-'))
    await writeFile(join(home, 'm.mjs'), FUNCTIONS)
    await writeFile(join(home, 'flow.yaml'), FLOW)
    const store = ['--store', 'postgres', '--postgres-dsn', await pg.createDatabase(), '--no-worker']
    const data = ['--data-dir', join(home, 'server')]
    server = startOrrery(['up', '--port', '0', '--log-level', 'warn', ...store, ...data], { env })
    address = (await server.waitFor(/orrery is up {2}(\S+)/, { withinMs: 50_000 }))[1] ?? ''
    for (const name of ['one', 'two']) {
      const where = ['--server', address, '--token', env.ORRERY_WORKER_TOKEN, '--workspace', join(home, name)]
      const worker = startOrrery(['worker', '--name', name, '--module', `m=${join(home, 'm.mjs')}`, ...where])
      workers.push(worker)
      await worker.waitFor(/worker .*(is up|takes work|registered)/, { withinMs: 50_000 })
    }
  })
  afterAll(async () => {
    for (const worker of workers) await worker.stop()
    await server.stop()
    await expectNoProcessLeft()
    await rm(home, { recursive: true, force: true })
  })

  const run = async (...args: string[]) => {
    const ran = await runOrrery(['run', 'flow.yaml', '--json', ...args], { cwd: home })
    const lines = ran.stdout
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as Record<string, unknown>)
    const outcome = lines.at(-1) as { outputs: unknown; state: string; exit: number; failure: { code: string } }
    const events = lines.filter((line) => line['type'] === 'event') as unknown as RunEvent[]
    return { code: ran.code, story: storyOf(events), outcome, seqs: events.map((event) => event.seq) }
  }

  test('tells the same story', async () => {
    const embedded = await run('--data-dir', join(home, 'embedded'))
    const served = await run('--server', address, '--token', env.ORRERY_ADMIN_TOKEN)
    expect(embedded.code).toBe(1)
    expect(embedded.outcome).toMatchObject({ state: 'failed', exit: 1 })
    expect(served.story).toEqual(embedded.story)
    expect(served.code).toBe(embedded.code)
    expect(served.outcome).toMatchObject({ state: 'failed', failure: { code: embedded.outcome.failure.code } })
    for (const { seqs } of [embedded, served]) expect(seqs).toEqual(seqs.map((_, i) => i + 1))
    // The story holds something: a retry, a skip, a failure that counts as success, a block.
    expect(embedded.story['retried']?.join()).toContain('waiting')
    expect(embedded.story['left']).toEqual(['skipped'])
    expect(embedded.story['kept']?.at(-1)).toContain('failed')
    expect(embedded.story['after']?.at(-1)).toContain('blocked')
    expect(Object.keys(embedded.story).filter((name) => name.startsWith('double['))).toHaveLength(5)
  })
})
