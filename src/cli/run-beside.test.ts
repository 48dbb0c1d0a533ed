import { beforeEach, describe, expect, test } from 'vitest'
import type { Client } from '../client/client.ts'
import type { ApplyResponse } from '../contract/resource-types.ts'
import { CliHarness } from './testing/cli-harness.ts'
import { at, runView } from './testing/scripted-client.ts'

const AGENT = `---
apiVersion: orrery.dev/v1
kind: Agent
metadata: { name: writer }
spec: { model: gpt, instructions: Be brief. }
`
const GPT = `apiVersion: orrery.dev/v1
kind: ModelEndpoint
metadata: { name: gpt }
spec: { provider: mock, model: m, mock: { replies: [{ text: hello }] } }
`
const WORKFLOW = `apiVersion: orrery.dev/v1
kind: Workflow
metadata: { name: letters }
spec:
  steps:
    - { name: write, agent: writer, with: Go. }
`

let cli: CliHarness
let applied: { names: string[]; dryRun: boolean }[]
let outcome: ApplyResponse['resources'][number]['outcome']

beforeEach(() => {
  cli = new CliHarness()
  applied = []
  outcome = 'created'
  cli.client.runs = [runView({}), runView({ state: 'succeeded', startedAt: at(0), endedAt: at(50) })]
  cli.client.emit(50, [{ of: 'run', to: 'succeeded' }], { terminal: true })
  cli.client.resources = {
    apply: (text: string, { dryRun }: { dryRun: boolean }) => {
      const { items } = JSON.parse(text) as { items: { kind: string; metadata: { name: string } }[] }
      applied.push({ names: items.map(({ kind, metadata }) => `${kind} ${metadata.name}`), dryRun })
      const resources = items.map(({ kind, metadata: { name } }) => ({
        kind,
        namespace: 'default',
        name,
        outcome,
        generation: 1,
        resourceVersion: '1',
      }))
      return Promise.resolve({ dryRun, resources })
    },
  } as unknown as Client['resources']
})
const created = () => cli.client.calls.filter(([call]) => call === 'createRun')

describe('what stands beside a workflow', () => {
  test('is stored before the run, by an engine in this process', async () => {
    cli.files['/srv/letters.yaml'] = `${GPT}---\n${WORKFLOW}${AGENT}`
    expect(await cli.run('run', 'letters.yaml')).toBe(0)
    expect(applied).toEqual([{ names: ['ModelEndpoint gpt', 'Agent writer'], dryRun: false }])
    expect(cli.err).toContain('stored ModelEndpoint gpt, Agent writer')
    expect(created()).toHaveLength(1)
  })

  test('says nothing when it was there already', async () => {
    outcome = 'unchanged'
    cli.files['/srv/letters.yaml'] = `${WORKFLOW}${AGENT}`
    expect(await cli.run('run', 'letters.yaml')).toBe(0)
    expect(cli.err).not.toContain('stored')
  })

  test('changes nothing on a server: what is not there as it is has to be applied first', async () => {
    cli.files['/srv/letters.yaml'] = `${WORKFLOW}${AGENT}`
    const server = ['--server', 'http://127.0.0.1:7780', '--token', 'x']
    expect(await cli.run('run', 'letters.yaml', ...server)).toBe(2)
    expect(applied).toEqual([{ names: ['Agent writer'], dryRun: true }])
    expect(cli.err).toContain('the files have Agent writer, which the server does not have as they are')
    expect(cli.err).toContain('orrery apply -f FILE')
    expect(created()).toEqual([])
    outcome = 'unchanged'
    expect(await cli.run('run', 'letters.yaml', ...server)).toBe(0)
    expect(created()).toHaveLength(1)
  })

  test('may stand in other files, and in all of a directory', async () => {
    cli.files['/srv/letters.yaml'] = WORKFLOW
    cli.files['/srv/agents/writer.yaml'] = AGENT
    cli.files['/srv/gpt.yaml'] = GPT
    expect(await cli.run('run', 'letters.yaml', '-f', 'agents', '-f', 'gpt.yaml')).toBe(0)
    expect(applied).toEqual([{ names: ['Agent writer', 'ModelEndpoint gpt'], dryRun: false }])
  })

  test('does not go with a workflow that is stored', async () => {
    expect(await cli.run('run', 'report', '-f', 'agents')).toBe(2)
    expect(cli.err).toContain('--filename adds to the manifest of a file')
  })

  test('alone is nothing to run', async () => {
    cli.files['/srv/agents.yaml'] = `${GPT}${AGENT}`
    expect(await cli.run('run', 'agents.yaml')).toBe(2)
    expect(cli.err).toContain('agents.yaml has no workflow')
  })
})

describe('names that are in none of the files', () => {
  test('are remarked on by plan', async () => {
    cli.files['/srv/letters.yaml'] = `${WORKFLOW}${AGENT}`
    expect(await cli.run('plan', 'letters.yaml')).toBe(0)
    expect(cli.err).toContain('warning: agent writer names ModelEndpoint gpt in model, which is not in these files')
    expect(cli.out).toContain('any worker with agents')
    cli = new CliHarness()
    cli.files['/srv/letters.yaml'] = WORKFLOW
    cli.files['/srv/agents.yaml'] = `${GPT}${AGENT}`
    expect(await cli.run('plan', 'letters.yaml', '-f', 'agents.yaml')).toBe(0)
    expect(cli.err).toBe('')
  })

  test('are remarked on by validate', async () => {
    cli.files['/srv/letters.yaml'] = WORKFLOW.replace('agent: writer', 'agent: writr')
    cli.files['/srv/agents.yaml'] = `${GPT}${AGENT}`
    expect(await cli.run('validate', 'letters.yaml', 'agents.yaml')).toBe(0)
    expect(cli.err).toContain('step write names Agent writr in agent, which is not in these files')
    expect(cli.err).toContain('did you mean writer?')
    cli = new CliHarness()
    cli.files['/srv/letters.yaml'] = WORKFLOW
    expect(await cli.run('validate', 'letters.yaml', '--json')).toBe(0)
    expect(JSON.parse(cli.out)).toMatchObject({ valid: true, warnings: [expect.stringContaining('Agent writer')] })
  })
})
