import type { Command } from 'commander'
import type { Client } from '../../client/client.ts'
import type { ResourceView } from '../../contract/resource-types.ts'
import { systemClock } from '../../base/index.ts'
import { Output } from '../output.ts'
import { buildProgram, leavesOf } from '../program/program.ts'
import { CliHarness } from './cli-harness.ts'
import {
  APPROVAL_ID,
  approvalView,
  at,
  RUN_ID,
  runView,
  stepView,
  tokenView,
  modelResult,
  memoryEntry,
} from './scripted-client.ts'

/** A command that does something, by the words that lead to it. */
export type Leaf = ReturnType<typeof leavesOf>[number]

/** The program, to look at: nothing of it may run. */
function programOf(): Command {
  const terminal = { write: () => {}, isTty: false, columns: 80, rows: 24 }
  const output = new Output({ stdout: terminal, stderr: terminal, colour: false }, { format: 'table' })
  const deps = { version: '0', clock: systemClock } as Parameters<typeof buildProgram>[0]['deps']
  return buildProgram({ deps, output, done: () => {} })
}

/** Every command of the program that does something, hidden ones left out. */
export const everyCommand = (): Leaf[] => leavesOf(programOf())

const MCP_PROGRAM = new URL('../../agents/testing/mcp-program.ts', import.meta.url).pathname

const FLOW = `apiVersion: orrery.dev/v1
kind: Workflow
metadata: { name: demo }
spec:
  steps:
    - { name: build, command: 'true' }
`

const TOOL = `apiVersion: orrery.dev/v1
kind: Tool
metadata: { name: demo }
spec:
  type: http
  description: Looks.
  inputSchema: { type: object, required: [q] }
  http: { url: 'https://api.example/' }
`

/** Of a call that reaches nobody. */
const FIXTURES = 'fixtures: [{ name: wants a question, fails: { code: tool.invalid_input } }]\n'

/** What each command is given so that it does its work in `demoWorld`; those that need nothing are left out. */
export const WORDS: Record<string, string[]> = {
  run: ['flow.yaml'],
  plan: ['flow.yaml'],
  'runs show': [RUN_ID],
  'runs watch': [RUN_ID],
  'runs wait': [RUN_ID],
  'runs logs': [RUN_ID],
  'runs transcript': [RUN_ID, 'build'],
  'runs cancel': [RUN_ID],
  'runs retry': [RUN_ID],
  'runs skip': [RUN_ID, 'build'],
  'runs approve': [RUN_ID, 'ship'],
  'approvals show': [APPROVAL_ID],
  'approvals approve': [APPROVAL_ID],
  'approvals deny': [APPROVAL_ID],
  'runs deny': [RUN_ID, 'ship'],
  'runs send': [RUN_ID, 'paid'],
  'runs nudge': [RUN_ID],
  events: [RUN_ID, '--once'],
  'artifacts list': [RUN_ID],
  'artifacts get': [RUN_ID, 'build', 'app.tar'],
  apply: ['-f', 'flow.yaml'],
  validate: ['flow.yaml'],
  diff: ['-f', 'flow.yaml'],
  get: ['workflows'],
  describe: ['workflow', 'demo'],
  edit: ['workflow', 'demo'],
  delete: ['workflow', 'demo'],
  'secret set': ['github', 'token=abcdefgh'],
  'secret show': ['github'],
  'secret delete': ['github'],
  'tool init': ['word-count'],
  'tool test': ['tool.yaml'],
  'memory list': ['notes'],
  'memory get': ['notes', 'customer/4711'],
  'memory put': ['notes', 'customer/4711', 'likes trains'],
  'memory search': ['notes', 'trains'],
  'memory ingest': ['notes', 'flow.yaml'],
  'memory delete': ['notes', 'customer/4711'],
  'memory check': ['notes'],
  'mcp tools': ['demo'],
  'mcp call': ['demo', 'echo', '--input', '{"text": "hello"}'],
  'models test': ['gpt'],
  'models ask': ['gpt', 'hello'],
  'token create': ['--name', 'ci', '--role', 'viewer'],
  'token revoke': ['tok_1'],
  'can-i': ['list', 'runs'],
  'context use': ['prod'],
  'context show': ['prod'],
  'context set': ['prod', '--server', 'https://orrery.example'],
  'context delete': ['prod'],
  completion: ['bash'],
}

const RESOURCE: ResourceView = {
  apiVersion: 'orrery.dev/v1',
  kind: 'Workflow',
  metadata: {
    name: 'demo',
    namespace: 'default',
    uid: 'uid_1',
    labels: { team: 'core' },
    annotations: {},
    generation: 2,
    resourceVersion: '7',
    createdAt: at(0),
    updatedAt: at(0),
  },
  spec: { steps: [{ name: 'build', command: 'false' }] },
  status: { phase: 'active', conditions: [], observedGeneration: 2 },
}

const MODEL: ResourceView = {
  ...RESOURCE,
  kind: 'ModelEndpoint',
  metadata: { ...RESOURCE.metadata, name: 'gpt' },
  spec: { provider: 'ollama', model: 'llama3.2' },
}

/** A program that speaks the protocol, started when one of its tools is asked for. */
const MCP_SERVER: ResourceView = {
  ...RESOURCE,
  kind: 'McpServer',
  spec: { transport: 'stdio', stdio: { command: process.execPath, args: [MCP_PROGRAM, 'stdio'] } },
}

/** Of what the scripted client gives as the content of app.tar. */
const SHA_256 = 'aada01ee80bd7e6dd53850f0fbdade030dba384de430b87d48302619a71e6615'

/** A server and a directory in which every command finds something. */
export function demoWorld(): CliHarness {
  const cli = new CliHarness()
  const { client } = cli
  cli.files['/srv/flow.yaml'] = FLOW
  cli.files['/srv/tool.yaml'] = TOOL
  cli.files['/srv/fixtures.yaml'] = FIXTURES
  cli.stdinText = 'orr_token\n'
  cli.contexts = { current: 'prod', contexts: { prod: { server: 'https://orrery.example', token: 'orr_kept' } } }
  // What up and worker start ends by itself.
  cli.ended.resolve({ failure: null })
  const run = runView({
    state: 'succeeded',
    startedAt: at(0),
    endedAt: at(40),
    steps: { total: 1, open: 0, bad: 0 },
    stepList: [stepView({ state: 'succeeded', output: { size: 3 } })],
  })
  client.runs = [run]
  client.list = [run]
  client.steps = run.stepList
  client.emit(40, [{ of: 'run', to: 'succeeded' }], { terminal: true })
  client.logs = [{ step: 'build', at: at(5), stream: 'stdout', text: 'made\n' } as (typeof client.logs)[number]]
  client.journal = [
    { seq: 1, fence: 1, at: at(1), entry: { kind: 'handed_over', turn: 0, from: 'writer', to: 'editor' } },
  ]
  client.artifacts = [
    { step: 'build', name: 'app.tar', bytes: 9, sha256: SHA_256, createdAt: at(0), expiresAt: at(60_000) },
  ]
  client.approvals = [approvalView()]
  client.tokens = [tokenView()]
  client.entries = [memoryEntry()]
  client.secrets = [{ namespace: 'default', name: 'github', keys: ['token'], sealedBy: ['k1'], updatedAt: at(0) }]
  client.workers = [
    {
      worker: 'box',
      session: 'ses_1',
      state: 'live',
      capacity: 2,
      held: 1,
      labels: { gpu: 'yes' },
      modules: ['tools'],
      backends: ['process'],
      version: '1.2.3',
      heartbeatAgoMs: 5,
      clockSkewMs: 0,
      problems: [],
    },
  ]
  client.audit = [
    {
      id: 'aud_1',
      at: at(0),
      actor: { id: 'tok_1', name: 'ci', role: 'operator' },
      organisation: 'default',
      namespace: 'default',
      action: 'runs.cancel',
      object: RUN_ID,
      outcome: 'done',
      address: '127.0.0.1',
      requestId: 'req_1',
      details: null,
    },
  ]
  client.resources = resourcesOf(RESOURCE)
  const { list, get } = client.resources
  client.resources.get = (ref) => (ref.kind === 'McpServer' ? Promise.resolve(MCP_SERVER) : get(ref))
  client.resources.list = async (kind, query) => ({
    ...(await list(kind, query)),
    items: [kind === 'ModelEndpoint' ? MODEL : kind === 'McpServer' ? MCP_SERVER : RESOURCE],
  })
  client.costs = {
    by: 'agent',
    items: [
      {
        namespace: 'default',
        name: 'writer',
        costs: [{ currency: 'USD', amount: 0.5 }],
        calls: 2,
        inputTokens: 100,
        cachedInputTokens: 0,
        outputTokens: 20,
        unpriced: 0,
      },
    ],
    more: false,
  }
  client.modelEvents = [
    { type: 'text', text: 'Good day.' },
    { type: 'finished', result: modelResult() },
  ]
  return cli
}

function resourcesOf(resource: ResourceView): Client['resources'] {
  const { kind } = resource
  const { name, namespace } = resource.metadata
  const version = { version: 2, lifecycle: 'active', createdAt: at(0), createdBy: 'ci' }
  const answers: Record<keyof Client['resources'], unknown> = {
    apply: { dryRun: false, resources: [{ kind, namespace, name, outcome: 'configured', generation: 2 }] },
    get: resource,
    list: { apiVersion: resource.apiVersion, kind: 'List', items: [resource], next: null },
    put: resource,
    remove: resource,
    watch: null,
    listVersions: { items: [version], next: null },
    getVersion: { ...version, spec: resource.spec },
  }
  // Each answers the same to whatever it is asked.
  return Object.fromEntries(
    Object.entries(answers).map(([method, answer]) => [method, () => Promise.resolve(answer)]),
  ) as unknown as Client['resources']
}

/** Understands a command line and does nothing: the words of the command that it would run. Rejects as commander refuses it. */
export async function parseOnly(words: readonly string[]): Promise<string> {
  const program = programOf()
  let found = ''
  for (const { path, command } of leavesOf(program)) {
    command.action(() => void (found = path))
  }
  const quiet = (command: Command): void => {
    command.exitOverride().configureOutput({ writeOut: () => {}, writeErr: () => {} })
    command.commands.forEach(quiet)
  }
  quiet(program)
  await program.parseAsync([...words], { from: 'user' })
  return found
}
