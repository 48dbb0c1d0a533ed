import { describe, expect, test } from 'vitest'
import type { JsonObject } from '../../base/json.ts'
import { readAgent } from '../kinds/agent.ts'
import { readMcpServer } from '../kinds/mcp-server.ts'
import { readTool } from '../kinds/tool.ts'
import { boundOf } from '../testing/definitions.ts'
import { askedCallOf } from './asked-call.ts'

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
    files: readMcpServer({ transport: 'stdio', stdio: { command: 'x' } }),
    tickets: readMcpServer({ transport: 'http', http: { url: 'https://tickets.example/mcp' } }),
  },
})
const asked = (tool: string, agent: string | null = 'writer') =>
  askedCallOf({ namespace: 'default', name: 'report', bound }, 'run_1', { agent, tool, operation: 'read', input: {} })

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

  test('says who is given work', () => {
    expect(asked('ask_reader').target).toEqual({ of: 'agent', name: 'reader' })
    expect(asked('research').target).toEqual({ of: 'agent', name: 'reader' })
    expect(asked('hand_over_to_lead').target).toEqual({ of: 'handoff', name: 'lead' })
  })

  test('says what makes connections of its own', () => {
    expect(['loose', 'files.read_file', 'notes'].map((tool) => asked(tool).isUnconfined)).toEqual([true, true, true])
    expect(['pay', 'tickets.close', 'research', 'slack'].map((tool) => asked(tool).isUnconfined)).toEqual([
      false,
      false,
      false,
      false,
    ])
  })
})
