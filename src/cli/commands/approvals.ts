import type { Json, JsonObject } from '../../base/json.ts'
import type { Client } from '../../client/client.ts'
import type { ApprovalState, ApprovalView } from '../../contract/api-types.ts'
import { Failure } from '../../domain/failure.ts'
import { LIMITS } from '../../domain/limits.ts'
import { isWaitCode } from '../../domain/reasons/reason.ts'
import type { CliDeps } from '../deps.ts'
import { failureLines } from '../failure-text.ts'
import { parseJson, readText } from '../inputs.ts'
import type { Output } from '../output.ts'
import { resolveRunId } from '../run-ids.ts'
import { printableLine, span } from '../terminal-text.ts'
import { usageFailure } from '../usage.ts'
import { connect, type ServerFlags } from './runs.ts'

const STATES: readonly ApprovalState[] = ['pending', 'approved', 'denied', 'expired', 'canceled']

/** JSON of a flag, or of the file that it names with @. */
async function jsonOf(deps: CliDeps, flag: string, text: string): Promise<Json> {
  const given = text.startsWith('@') ? await readText(deps, text.slice(1), `the value of ${flag}`) : text
  const parsed = parseJson(given)
  if ('json' in parsed) return parsed.json
  throw usageFailure(
    `${flag} is not JSON: ${parsed.wrong.message}`,
    `Write one JSON value, a text in its own quotes: ${flag} '"text"'. @FILE reads it from a file.`,
  )
}

export interface DecisionFlags extends ServerFlags {
  comment?: string
  inputs?: string
}

export async function decide(
  deps: CliDeps,
  output: Output,
  { id, step, approve }: { id: string; step: string; approve: boolean },
  flags: DecisionFlags,
): Promise<number> {
  const inputs = flags.inputs === undefined ? undefined : await jsonOf(deps, '--inputs', flags.inputs)
  if (inputs !== undefined && (typeof inputs !== 'object' || inputs === null || Array.isArray(inputs)))
    throw usageFailure('--inputs is no JSON object, such as {"reason": "tested"}')
  const client = await connect(deps, flags)
  const run = await resolveRunId(client, id)
  const approval = await approvalOf(client, run, step)
  const comment = flags.comment === undefined ? {} : { comment: flags.comment }
  const decided = approve
    ? await client.approve(approval.id, {
        ...comment,
        ...(inputs === undefined ? {} : { inputs: inputs as JsonObject }),
      })
    : await client.deny(approval.id, comment)
  if (output.isData) output.printData(decided)
  else {
    output.print([
      span(`${printableLine(step)} is `),
      span(decided.state, approve ? 'good' : 'bad'),
      span(` by ${printableLine(decided.decidedBy ?? 'you')}`),
    ])
    output.remark(`  orrery runs show ${run}`)
  }
  return 0
}

/** The approval that a step waits for; else the last one, which the server then says is decided. */
async function approvalOf(client: Client, run: string, step: string): Promise<ApprovalView> {
  const { items } = await client.listApprovals({ run, step, limit: 20 })
  const found = items.find((a) => a.state === 'pending') ?? items[0]
  if (found) return found
  const waiting = (await client.listApprovals({ run, states: ['pending'], limit: 20 })).items.map((a) => a.step)
  throw new Failure('approval.not_found', `looking for an approval of step ${step} of run ${run}`, {
    evidence: { step, run, waiting },
    remediation:
      waiting.length > 0
        ? `These steps of the run wait for an approval: ${waiting.join(', ')}.`
        : `No step of the run waits for an approval; look at it with orrery runs show ${run}.`,
  })
}

export interface CallDecisionFlags extends DecisionFlags {
  inputJson?: string
  outputJson?: string
}

/** Decides an approval by its id, which is how a call of an agent is meant: a step may ask for several. */
export async function decideById(
  deps: CliDeps,
  output: Output,
  { id, approve }: { id: string; approve: boolean },
  flags: CallDecisionFlags,
): Promise<number> {
  const objectOf = async (flag: string, text: string | undefined): Promise<JsonObject | undefined> => {
    if (text === undefined) return undefined
    const value = await jsonOf(deps, flag, text)
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value
    throw usageFailure(`${flag} is no JSON object, such as {"to": "x"}`)
  }
  const inputs = await objectOf('--inputs', flags.inputs)
  const input = await objectOf('--input-json', flags.inputJson)
  const gave = flags.outputJson === undefined ? undefined : await jsonOf(deps, '--output-json', flags.outputJson)
  const client = await connect(deps, flags)
  const comment = flags.comment === undefined ? {} : { comment: flags.comment }
  const decided = approve
    ? await client.approve(id, {
        ...comment,
        ...(inputs === undefined ? {} : { inputs }),
        ...(input === undefined ? {} : { input }),
        ...(gave === undefined ? {} : { output: gave }),
      })
    : await client.deny(id, comment)
  if (output.isData) output.printData(decided)
  else {
    const what = decided.call ? `${decided.call.tool} of ${decided.step}` : decided.step
    output.print([
      span(`${printableLine(what)} is `),
      span(decided.state, approve ? 'good' : 'bad'),
      span(` by ${printableLine(decided.decidedBy ?? 'you')}`),
    ])
    if (decided.remark !== null) output.remark(`  ${printableLine(decided.remark)}`)
    output.remark(`  orrery runs show ${decided.run}`)
  }
  return 0
}

/** Everything that whoever decides has to see: of a call the arguments, exactly. */
export async function show(deps: CliDeps, output: Output, id: string, flags: ServerFlags): Promise<number> {
  const client = await connect(deps, flags)
  const approval = await client.getApproval(id)
  if (output.isData) {
    output.printData(approval)
    return 0
  }
  const { call } = approval
  const row = (title: string, text: string) =>
    output.print([span(`${title.padEnd(11)} `, 'dim'), span(printableLine(text))])
  const json = (title: string, value: Json) => {
    output.print([span(`${title}:`, 'dim')])
    for (const line of JSON.stringify(value, null, 2).split('\n')) output.print([span(`  ${printableLine(line)}`)])
  }
  row('approval', approval.id)
  row('state', approval.state)
  row('run', `${approval.run} (${approval.namespace}/${approval.workflow})`)
  row('step', approval.step)
  row('asks', approval.message)
  row('approvers', approval.approvers?.join(', ') ?? 'anybody who may decide')
  row('expires', approval.expiresAt ?? 'never')
  if (approval.decidedBy !== null) row('decided by', `${approval.decidedBy}, ${approval.decidedAt ?? ''}`)
  if (approval.comment !== null) row('comment', approval.comment)
  if (call) {
    if (call.agent !== null) row('agent', call.agent)
    row('tool', call.operation === null ? call.tool : `${call.tool} (${call.operation})`)
    if (call.rule !== null) row('rule', call.rule)
    if (call.reason !== null) row('reason', call.reason)
    json('input', call.input)
    if (call.edited !== null) json('changed to', call.edited)
    if (call.output !== null) json('output', call.output)
  } else if (approval.inputs !== null) json('inputs', approval.inputs)
  if (approval.state === 'pending')
    output.remark(`  orrery approvals approve ${approval.id}, orrery approvals deny ${approval.id}`)
  return 0
}

export interface ApprovalListFlags extends ServerFlags {
  state?: string[]
  run?: string
  namespace?: string
  limit: string
}

export async function list(deps: CliDeps, output: Output, flags: ApprovalListFlags): Promise<number> {
  const states = (flags.state ?? ['pending']).flatMap((text) => text.split(',')).map(parseState)
  const limit = Number(flags.limit)
  if (!Number.isInteger(limit) || limit < 1 || limit > LIMITS.pageMax)
    throw usageFailure(`--limit ${flags.limit} is not a whole number from 1 to ${LIMITS.pageMax}`)
  const client = await connect(deps, flags)
  const page = await client.listApprovals({
    states,
    limit,
    ...(flags.run === undefined ? {} : { run: await resolveRunId(client, flags.run) }),
    ...(flags.namespace === undefined ? {} : { namespace: flags.namespace }),
  })
  if (output.isData) {
    output.printData({ approvals: page.items, next: page.next })
    return 0
  }
  if (page.items.length === 0) {
    output.remark(`No approval is ${states.join(' or ')}.`)
    return 0
  }
  const columns = [
    ...['RUN', 'STEP', 'STATE', 'EXPIRES', 'ASKS'].map((title) => ({ title })),
    ...['APPROVAL', 'TOOL', 'RULE', 'NAMESPACE', 'WORKFLOW', 'APPROVERS', 'DECIDED BY', 'COMMENT'].map((title) => ({
      title,
      wide: true,
    })),
  ]
  const rows = page.items.map((a) => [
    { text: a.run },
    { text: printableLine(a.step) },
    { text: a.state, style: a.state === 'pending' ? ('warn' as const) : ('dim' as const) },
    { text: a.expiresAt === null ? 'never' : `${a.expiresAt.slice(0, 19)}Z` },
    { text: printableLine(a.message) },
    { text: a.id },
    { text: printableLine(a.call?.tool ?? '-') },
    { text: printableLine(a.call?.rule ?? '-') },
    { text: a.namespace },
    { text: printableLine(a.workflow) },
    { text: printableLine(a.approvers?.join(',') ?? 'anybody') },
    { text: printableLine(a.decidedBy ?? '-') },
    { text: printableLine(a.comment ?? '-') },
  ])
  output.printTable(columns, rows)
  output.remark(
    page.items.some((a) => a.call)
      ? '  orrery approvals show APPROVAL, orrery approvals approve APPROVAL (-o wide or -o json names them)'
      : '  orrery runs approve RUN STEP, orrery runs deny RUN STEP',
  )
  return 0
}

function parseState(text: string): ApprovalState {
  const found = STATES.find((state) => state === text)
  if (found) return found
  throw usageFailure(`--state ${text} is none of ${STATES.join(', ')}`)
}

export interface SendFlags extends ServerFlags {
  payload: string
  key?: string
}

export async function send(
  deps: CliDeps,
  output: Output,
  { id, event }: { id: string; event: string },
  flags: SendFlags,
): Promise<number> {
  const payload = await jsonOf(deps, '--payload', flags.payload)
  const client = await connect(deps, flags)
  const run = await resolveRunId(client, id)
  const options = flags.key === undefined ? {} : { idempotencyKey: flags.key }
  const sent = await client.sendEvent(run, { name: event, payload }, options)
  if (output.isData) output.printData(sent)
  else if (sent.step !== null)
    output.print(`${printableLine(sent.step)} of ${run} took ${printableLine(event)} and goes on`)
  else output.print(`${run} keeps ${printableLine(event)} until a step waits for it`)
  return 0
}

export async function nudge(deps: CliDeps, output: Output, id: string, flags: ServerFlags): Promise<number> {
  const client = await connect(deps, flags)
  const { run, changed, waiting } = await client.nudgeRun(await resolveRunId(client, id))
  if (output.isData) {
    output.printData({ run, changed, waiting })
    return 0
  }
  for (const { of, to } of changed) output.print(`${printableLine(of)} is ${to}`)
  if (changed.length === 0) output.print(`Nothing of ${run.id} could be moved; it is ${run.state}.`)
  for (const { step, state, reason } of waiting) {
    if (reason && !isWaitCode(reason.code))
      output.print(
        [],
        [span(`step ${printableLine(step)} is ${state}`)],
        ...failureLines(reason, { width: output.width }),
      )
    else output.print(`  ${printableLine(step)} is ${state}: ${printableLine(reason?.message ?? '')}`)
  }
  return 0
}
