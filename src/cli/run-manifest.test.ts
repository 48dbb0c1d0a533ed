import { describe, expect, test } from 'vitest'
import type { CreateDefinitionRequest } from '../contract/api-types.ts'
import { readRunManifest } from './run-manifest.ts'
import { CliHarness } from './testing/cli-harness.ts'

const workflow = (name: string, steps: string, spec = ''): string => `apiVersion: orrery.dev/v1
kind: Workflow
metadata: { name: ${name} }
spec:
${spec}  steps:
${steps}`
const step = (name: string, what: string): string => `    - { name: ${name}, ${what} }\n`

const FILE = [
  workflow(
    'main',
    step('one', 'workflow: middle') + step('two', 'workflow: leaf') + step('far', 'workflow: elsewhere'),
  ),
  workflow('middle', step('deep', 'workflow: leaf') + step('up', 'workflow: main')),
  workflow('leaf', step('work', 'command: make'), '  modules: { tools: ./tools.ts }\n'),
  workflow('unused', step('work', 'command: make')),
].join('---\n')

/** What reaches a server. */
async function sent(text: string, name?: string) {
  const stored: Record<string, CreateDefinitionRequest> = {}
  const client = {
    putDefinition: (request: CreateDefinitionRequest) => {
      const of = (request.workflow?.['metadata'] as { name?: string } | undefined)?.name ?? ''
      stored[of] = request
      return Promise.resolve({ hash: `hash-of-${of}`, namespace: 'default', name: of, nodes: [] })
    },
  }
  const read = readRunManifest(text, { file: 'flows.yaml', workflow: name })
  const request = await read.request(client as unknown as Parameters<typeof read.request>[0])
  return { read, stored, request }
}
const stepsOf = (request: { workflow?: object } | undefined) =>
  (request?.workflow as { spec: { steps: object[] } } | undefined)?.spec.steps

describe('a file of several workflows', () => {
  test('runs the first, with those that it reaches named by what stands in the file', async () => {
    const { read, stored, request } = await sent(FILE)
    expect(read.definition.name).toBe('main')
    expect(read.modules).toEqual({ tools: './tools.ts' })
    expect(Object.keys(stored)).toEqual(['leaf', 'middle'])
    expect(stepsOf(request)).toEqual([
      { name: 'one', definition: 'hash-of-middle' },
      { name: 'two', definition: 'hash-of-leaf' },
      // What is not in the file is looked for where the run is.
      { name: 'far', workflow: 'elsewhere' },
    ])
    // A way back to a workflow that is under way stays a name.
    expect(stepsOf(stored['middle'])).toEqual([
      { name: 'deep', definition: 'hash-of-leaf' },
      { name: 'up', workflow: 'main' },
    ])
  })

  test('runs the one that --workflow names', async () => {
    const { read, request } = await sent(FILE, 'leaf')
    expect(read.definition.name).toBe('leaf')
    expect(stepsOf(request)).toEqual([{ name: 'work', command: 'make' }])
  })

  test('one alone is sent as it was written', async () => {
    const text = workflow('only', step('work', 'command: make'))
    expect((await sent(text, 'only')).request).toEqual({ manifest: text })
  })

  test.for([
    ['a name that is not there', FILE, 'middel', 'Did you mean middle? Workflows there: main, middle, leaf, unused.'],
    ['another name for one workflow alone', workflow('only', step('a', 'command: make')), 'onyl', 'Did you mean only?'],
    [
      'a file without a workflow',
      `apiVersion: orrery.dev/v1\nkind: Secret\nmetadata: { name: s }\nspec: { data: { k: abcdefgh } }\n` +
        '---\napiVersion: orrery.dev/v1\nkind: Instructions\nmetadata: { name: i }\nspec: { text: Be brief. }\n',
      undefined,
      'orrery apply -f FILE',
    ],
    [
      'two modules of one name',
      workflow('a', step('a', 'command: make'), '  modules: { m: ./a.ts }\n') +
        '---\n' +
        workflow('b', step('b', 'command: make'), '  modules: { m: ./b.ts }\n'),
      undefined,
      'Give one of them another name.',
    ],
  ] as const)('refuses %s', ([, text, name, remedy]) => {
    expect(() => readRunManifest(text, { file: 'flows.yaml', workflow: name })).toThrow(
      expect.objectContaining({ code: 'request.invalid', remediation: expect.stringContaining(remedy) }),
    )
  })

  test('tells all problems of all its workflows, with their lines', async () => {
    const cli = new CliHarness()
    cli.files['/srv/flows.yaml'] = FILE.replace('{ name: leaf }', '{ nme: leaf }').replace('name: deep,', 'nam: deep,')
    expect(await cli.run('run', 'flows.yaml')).toBe(65)
    expect(cli.err).toContain('nme')
    expect(cli.err).toContain('nam')
    expect(cli.client.calls).toEqual([])
  })

  test('plan shows the one that is named', async () => {
    const cli = new CliHarness()
    cli.files['/srv/flows.yaml'] = FILE
    expect(await cli.run('plan', 'flows.yaml', '--workflow', 'leaf')).toBe(0)
    expect(cli.out).toContain('default/leaf')
  })

  test('--workflow is of no use for a stored workflow', async () => {
    const cli = new CliHarness()
    expect(await cli.run('run', 'report', '--workflow', 'x')).toBe(2)
    expect(cli.err).toContain('--workflow chooses one of the workflows of a file')
  })
})
