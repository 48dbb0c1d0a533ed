import { describe, expect, test } from 'vitest'
import type { JsonObject } from '../../base/json.ts'
import { readAgent } from '../kinds/agent.ts'
import { readMcpServer } from '../kinds/mcp-server.ts'
import { readTool } from '../kinds/tool.ts'
import { agentNode, boundOf, definitionOf } from '../testing/definitions.ts'
import type { WorkflowNode } from '../workflow.ts'
import type { OperationClass } from './verdict.ts'
import { askedCallOf, isOfStep } from './asked-call.ts'

const program = (more: JsonObject = {}) =>
  readTool({ type: 'command', description: 'x', command: { argv: ['true'] }, ...more })
const bound = boundOf({
  agents: {
    writer: {
      spec: readAgent({
        model: 'gpt',
        instructions: 'x',
        tools: ['pay', 'loose', 'research', 'notes'],
        mcpServers: [{ name: 'files', tools: ['read_*'] }, { name: 'tickets' }],
        memories: [{ name: 'diary', allow: ['read', 'write'] }],
        delegates: ['reader'],
        handoffs: ['lead'],
        roles: ['r'],
        approval: 'always',
        approvers: ['ann'],
        approvalExpires: '1h',
      }),
      instructions: '',
      definition: null,
    },
  },
  tools: {
    pay: program({ operation: 'delete' }),
    loose: program({ isolation: 'none' }),
    research: readTool({ type: 'agent', description: 'x', agent: 'reader' }),
    notes: readTool({ type: 'mcp', description: 'x', mcp: { server: 'files', tool: 'list' } }),
  },
  mcpServers: {
    files: readMcpServer({
      transport: 'stdio',
      stdio: { command: 'x' },
      tools: { operation: 'read', overrides: [{ match: 'read_secret', operation: 'admin' }] },
    }),
    closed: readMcpServer({ transport: 'stdio', stdio: { command: 'x', isolation: 'sandbox' } }),
    tickets: readMcpServer({ transport: 'http', http: { url: 'https://tickets.example/mcp' } }),
  },
})
const asked = (tool: string, agent: string | null = 'writer', operation: OperationClass = 'read') =>
  askedCallOf({ namespace: 'default', name: 'report', bound }, 'run_1', { agent, tool, operation, input: {} })

describe('what the rules are asked about a call', () => {
  test('comes from the definition where it knows better than the worker', () => {
    expect(asked('pay')).toMatchObject({
      operation: 'delete',
      own: {
        roles: ['r'],
        approval: 'always',
        approvers: ['ann'],
        approvalExpiresMs: 3_600_000,
        isOffered: true,
        given: null,
      },
      target: null,
      isUnconfined: false,
    })
    expect(asked('pay', 'stranger').own).toBeNull()
    expect(asked('pay', null)).toMatchObject({ own: null, operation: 'delete' })
  })

  test.for<[tool: string, isOffered: boolean, given: string | null]>([
    ['files.read_file', true, null],
    ['files.write_file', false, null],
    ['tickets.close', true, null],
    ['diary.write', true, 'memories'],
    ['diary.search', false, null],
    ['ask_reader', true, 'delegates'],
    ['hand_over_to_lead', true, 'handoffs'],
    ['ask_lead', false, null],
    ['slack', false, null],
  ])('%s is offered: %s, given by %s', ([tool, isOffered, given]) => {
    expect(asked(tool).own).toMatchObject({ isOffered, given })
  })

  test.for<[tool: string, said: OperationClass, is: OperationClass]>([
    ['tickets.close', 'read', 'write'],
    ['tickets.close', 'delete', 'delete'],
    ['files.read_file', 'write', 'read'],
    ['files.read_file', 'delete', 'delete'],
    ['files.read_secret', 'read', 'admin'],
    ['diary.write', 'read', 'write'],
    ['diary.read', 'write', 'read'],
    ['ask_reader', 'read', 'write'],
    ['hand_over_to_lead', 'admin', 'read'],
  ])('of %s the worker says %s, and it is %s', ([tool, said, is]) => {
    expect(asked(tool, 'writer', said).operation).toBe(is)
  })

  test('is only what the step itself may ask for', () => {
    const [write] = definitionOf([agentNode('write')]).nodes
    if (!write) throw new Error('it has a step')
    const nodes: WorkflowNode[] = [
      write,
      { ...write, kind: 'tool', tool: 'pay', with: {} },
      { ...write, kind: 'route', model: 'gpt', question: 'q', options: [], fallback: null },
    ]
    const call = { kind: 'tool_asked', call: 'c', turn: 1, operation: 'read', input: {}, repeatable: true } as const
    const model = { kind: 'model_asked', call: 'c', turn: 1, purpose: 'turn', endpoint: 'gpt' } as const
    const tokens = { input: 1, output: 1 }
    const calls = (node: number, agent: string, tool: string) => isOfStep(nodes[node], bound, { ...call, agent, tool })
    const asks = (node: number, agent: string) => isOfStep(nodes[node], bound, { ...model, agent, tokens })
    expect(['writer', 'lead', 'reader', ''].map((agent) => calls(0, agent, 'pay'))).toEqual([true, true, false, false])
    expect(['writer', 'lead', 'reader', ''].map((agent) => asks(0, agent))).toEqual([true, true, false, false])
    expect([calls(1, '', 'pay'), calls(1, '', 'loose'), asks(1, '')]).toEqual([true, false, false])
    expect([calls(2, '', 'pay'), asks(2, '')]).toEqual([false, true])
    expect(isOfStep(undefined, bound, { ...call, agent: 'writer', tool: 'pay' })).toBe(false)
  })

  test('says who is given work', () => {
    expect(asked('ask_reader').target).toEqual({ of: 'agent', name: 'reader' })
    expect(asked('research').target).toEqual({ of: 'agent', name: 'reader' })
    expect(asked('hand_over_to_lead').target).toEqual({ of: 'handoff', name: 'lead' })
  })

  test('says what makes connections of its own', () => {
    expect(['loose', 'files.read_file', 'notes'].map((tool) => asked(tool).isUnconfined)).toEqual([true, true, true])
    expect(['pay', 'tickets.close', 'closed.it', 'research', 'slack'].map((tool) => asked(tool).isUnconfined)).toEqual([
      false,
      false,
      false,
      false,
      false,
    ])
  })
})
