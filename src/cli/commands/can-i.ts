import { formatDuration, type JsonObject } from '../../base/index.ts'
import type { AgentCheck } from '../../contract/api-types.ts'
import { OPERATION_CLASSES } from '../../domain/agents/verdict.ts'
import { DEFAULT_NAMESPACE } from '../../domain/kinds/envelope.ts'
import { isObject } from '../../domain/placed-problem.ts'
import type { CliDeps } from '../deps.ts'
import type { Output } from '../output.ts'
import { printableLine, span } from '../terminal-text.ts'
import { usageFailure } from '../usage.ts'
import { connect, type ServerFlags } from './runs.ts'

export interface CanIFlags extends ServerFlags {
  namespace?: string
  workflow?: string
  inputJson?: string
  model?: string
}

/** Exit codes of `orrery can-i`. */
const ALLOWED = 0
const DENIED = 1
const ASKED = 3

/** `orrery can-i VERB RESOURCE`: what the token may do. Exit code 0 for yes, 1 for no. */
export async function canI(
  deps: CliDeps,
  output: Output,
  what: { verb: string; resource: string },
  flags: CanIFlags,
): Promise<number> {
  for (const [flag, value] of Object.entries({
    workflow: flags.workflow,
    'input-json': flags.inputJson,
    model: flags.model,
  }))
    if (value !== undefined)
      throw usageFailure(
        `--${flag} is for can-i AGENT TOOL OPERATION`,
        'Name the agent, the tool and the class of operation.',
      )
  const client = await connect(deps, flags)
  const { namespace } = flags
  const answer = await client.canI({ ...what, ...(namespace === undefined ? {} : { namespace }) })
  if (output.isData) output.printData(answer)
  else output.print([span(answer.allowed ? 'yes' : 'no', answer.allowed ? 'good' : 'bad'), span(`  ${answer.reason}`)])
  return answer.allowed ? ALLOWED : DENIED
}

/** `orrery can-i AGENT TOOL OPERATION`: what an agent may do, and which rule says so. Exit code 0: allowed, 1: denied, 3: a person decides. */
export async function canAgent(
  deps: CliDeps,
  output: Output,
  what: { agent: string; tool: string; operation: string },
  flags: CanIFlags,
): Promise<number> {
  const operation = OPERATION_CLASSES.find((one) => one === what.operation)
  if (!operation)
    throw usageFailure(
      `${printableLine(what.operation)} is no class of operations`,
      `Use one of ${OPERATION_CLASSES.join(', ')}.`,
    )
  const input = flags.inputJson === undefined ? undefined : inputOf(flags.inputJson)
  const client = await connect(deps, flags)
  const answer = await client.checkAgent(flags.namespace ?? DEFAULT_NAMESPACE, what.agent, {
    tool: what.tool,
    operation,
    ...(input === undefined ? {} : { input }),
    ...(flags.workflow === undefined ? {} : { workflow: flags.workflow }),
    ...(flags.model === undefined ? {} : { model: flags.model }),
  })
  if (output.isData) output.printData(answer)
  else show(output, answer)
  if (answer.verdict === 'deny' || answer.model?.allowed === false) return DENIED
  return answer.verdict === 'approval' ? ASKED : ALLOWED
}

function inputOf(text: string): JsonObject {
  const value = parsed(text)
  if (isObject(value)) return value
  throw usageFailure('--input-json is no JSON object', `Write for example --input-json '{"channel":"ops"}'.`)
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return null
  }
}

const WORDS = {
  allow: { text: 'yes', style: 'good' },
  deny: { text: 'no', style: 'bad' },
  approval: { text: 'a person decides', style: 'warn' },
} as const

const SAYS = { allow: 'allow', deny: 'deny', approval: 'approval', nothing: '-', not_applied: '-' } as const

function show(output: Output, answer: AgentCheck): void {
  const { text, style } = WORDS[answer.verdict]
  output.print([
    span(text, style),
    span(`  by ${printableLine(answer.rule)}${answer.code === null ? '' : ` (${answer.code})`}`),
  ])
  if (answer.reason !== null) output.print(`  ${printableLine(answer.reason)}`)
  if (answer.verdict === 'approval') {
    const who = answer.approvers === null ? 'all who may decide approvals' : answer.approvers.join(', ')
    const until = answer.expiresMs === null ? '' : `, within ${formatDuration(answer.expiresMs)}`
    output.print(`  decided by ${printableLine(who)}${until}`)
  }
  if (answer.remediation !== null) output.print(`  ${printableLine(answer.remediation)}`)
  const { model } = answer
  if (model) {
    const by = model.allowed ? '' : ` by ${printableLine(model.rule ?? '')}: ${printableLine(model.reason ?? '')}`
    output.print([
      span(`model ${printableLine(model.endpoint)}: `),
      span(model.allowed ? 'yes' : 'no', model.allowed ? 'good' : 'bad'),
      span(by),
    ])
    if (model.remediation !== null) output.print(`  ${printableLine(model.remediation)}`)
  }
  const looked = [...answer.looked, ...(model?.looked ?? [])]
  output.printTable(
    ['RULE', 'PART', 'SAYS', 'WHY'].map((title) => ({ title })),
    looked.map(({ rule, part, says, why }) => [
      { text: printableLine(rule) },
      { text: part ?? '-' },
      { text: SAYS[says] },
      { text: printableLine(why) },
    ]),
  )
}
