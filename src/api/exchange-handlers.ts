import { findUnstorable } from '../contract/json-text.ts'
import type {
  AgentContextRequest,
  HeartbeatRequest,
  PollRequest,
  RegisterRequest,
  Report,
  ReportAck,
  ReportRequest,
} from '../contract/exchange.ts'
import { failureRecord } from '../domain/failure.ts'
import type { Answer, Exchange } from './context.ts'

// Bodies were checked by their route: that is the reason for each `as` here.

export async function register(x: Exchange): Promise<Answer> {
  return x.respondJson(200, await x.deps.engine.register(x.caller, x.body as RegisterRequest))
}

export async function poll(x: Exchange): Promise<Answer> {
  return x.respondJson(200, await x.deps.engine.poll(x.caller, x.body as PollRequest, x.signal))
}

export async function heartbeat(x: Exchange): Promise<Answer> {
  return x.respondJson(200, await x.deps.engine.heartbeat(x.caller, x.body as HeartbeatRequest))
}

export async function agent(x: Exchange): Promise<Answer> {
  return x.respondJson(200, await x.deps.engine.readAgentContext(x.caller, x.body as AgentContextRequest))
}

/** `suspect`: the body may hold what no store keeps. Such a report is rejected alone; the others of its request are recorded. */
export async function report(x: Exchange, suspect: boolean): Promise<Answer> {
  const request = x.body as ReportRequest
  if (!suspect) return x.respondJson(200, await x.deps.engine.report(x.caller, request))
  const good: Report[] = []
  const rejected: ReportAck[] = []
  for (const report of request.reports) {
    const bad = findUnstorable(report)
    if (bad === null) good.push(report)
    else rejected.push(rejectionOf(report, bad))
  }
  const response = await x.deps.engine.report(x.caller, { ...request, reports: good })
  return x.respondJson(200, { ...response, acks: [...response.acks, ...rejected] })
}

function rejectionOf(report: Report, bad: { path: string; message: string }): ReportAck {
  const { step, fence, seq } = report
  const failure = failureRecord('request.invalid', `recording report ${seq} of step ${step}`, {
    evidence: { problems: [{ code: 'request.invalid', path: bad.path, message: bad.message }] },
    remediation: 'Leave out the characters and numbers that cannot be stored; the place is named with the failure.',
  })
  return { step, fence, seq, outcome: 'rejected', failure }
}
