import { readFile, stat } from 'node:fs/promises'
import type { JsonObject } from '../base/index.ts'
import type { CommandHandle, EndOfCommand, StageEnd, Taken } from '../backends/backend.ts'
import { isGoodStage, STAGE_WORDS } from '../backends/stage-text.ts'
import { failureRecord, type FailureRecord } from '../domain/failure.ts'
import type { FailureCode } from '../domain/failures.ts'
import { LIMITS } from '../domain/limits.ts'
import type { Attempt, Outcome } from './attempt.ts'
import { checkOutput, describe, failed, outputOutcome, tooLarge } from './outcome.ts'
import { boundText } from './to-json.ts'

/** How the tail of an output that is no JSON is cut. */
const RAW_TAIL_CHARS = 2_048

/** What the end of a command means for its step. The output of one whose files are its output comes later. */
export async function outcomeOfEnd(attempt: Attempt, end: EndOfCommand, handle: CommandHandle): Promise<Outcome> {
  const more = { ...stageEvidence(end.stages ?? []), ...keptOf(attempt, end, handle) }
  const what = whatEnded(attempt, end.stages ?? [])
  const fails = (code: FailureCode, message: string, evidence: JsonObject): Outcome =>
    failed(failureRecord(code, message, { evidence: { ...evidence, ...more } }))
  const tail = 'tail' in end ? boundText(end.tail, LIMITS.tailBytes) : ''
  switch (end.kind) {
    case 'exited': {
      const { exitCode } = end
      if (exitCode !== 0) return fails('step.exit_nonzero', `running ${what}`, { exitCode, tail })
      const outcome = await readOutput(attempt, end)
      const checked = outcome.kind === 'succeeded' && !isOfFiles(attempt) ? checkOutput(attempt, outcome) : outcome
      if (checked.kind !== 'failed') return checked
      return failed(withEvidence(checked.failure, { tail, ...more }))
    }
    case 'signaled':
      return fails('step.signaled', `running ${what}`, { signal: end.signal, tail })
    case 'timed_out': {
      const { timeoutMs, exitCode, signal } = end
      return fails('step.timed_out', `running ${what}`, { timeoutMs, exitCode, signal, tail })
    }
    case 'canceled':
      return { kind: 'canceled' }
    case 'lost':
      return fails('backend.lost', `waiting for ${what}`, { tail, ...tearDownLost(attempt) })
    case 'unusable':
      return failed(withEvidence(end.failure, { tail, ...more }))
    case 'not_started':
      return failed(end.stages ? withEvidence(end.failure, more) : end.failure)
  }
}

const withEvidence = (failure: FailureRecord, more: JsonObject): FailureRecord => ({
  ...failure,
  evidence: { ...failure.evidence, ...more },
})

export const isOfFiles = ({ assignment: { work } }: Attempt): boolean =>
  work.kind === 'command' && work.output?.from === 'artifacts'

/** The last stage that is no tear-down: what the end of an attempt is about. */
const decisive = (stages: readonly StageEnd[]): StageEnd | undefined => stages.findLast((s) => s.stage !== 'tearDown')

function whatEnded(attempt: Attempt, stages: readonly StageEnd[]): string {
  const last = decisive(stages)
  const stage = last && last.stage !== 'command' ? `${STAGE_WORDS[last.stage]} ${last.number}` : 'the command'
  return `${stage} of ${describe(attempt)}`
}

/** Which stage it was, and how each that ran ended. Empty without stages. */
function stageEvidence(stages: readonly StageEnd[]): JsonObject {
  const last = decisive(stages)
  if (!last) return {}
  return {
    stage: last.stage,
    ...(last.stage === 'command' ? {} : { number: last.number }),
    stages: stages.map((s) => ({
      stage: s.stage,
      number: s.number,
      end: s.end,
      ...(s.exitCode === null ? {} : { exitCode: s.exitCode }),
      ...(s.signal === null ? {} : { signal: s.signal }),
      durationMs: s.durationMs,
      ...(s.tail === undefined ? {} : { tail: boundText(s.tail, LIMITS.tailBytes / 4) }),
      ...(s.failure ? { code: s.failure.code, message: s.failure.message } : {}),
    })),
  }
}

/** Tear-downs that did not end well, for whoever looks after the worker: they change no outcome. */
export const failedTearDowns = ({ stages = [] }: EndOfCommand): StageEnd[] =>
  stages.filter((stage) => stage.stage === 'tearDown' && !isGoodStage(stage))

/** Nobody was left to run it. */
function tearDownLost({ assignment: { work } }: Attempt): JsonObject {
  return work.kind === 'command' && work.tearDown ? { tearDown: 'not known to have run' } : {}
}

/** Where the workspace stays and how long, when the step asks for that. Known before the backend is told, because it travels with the failure. */
function keptOf(attempt: Attempt, end: { endedAt: number }, handle: CommandHandle): JsonObject {
  const { work } = attempt.assignment
  if (work.kind !== 'command' || work.keepOnFailureMs === null) return {}
  return { kept: { path: handle.workspace, until: new Date(end.endedAt + work.keepOnFailureMs).toISOString() } }
}

async function readOutput(attempt: Attempt, end: Extract<EndOfCommand, { kind: 'exited' }>): Promise<Outcome> {
  const { work } = attempt.assignment
  const rule = work.kind === 'command' ? work.output : undefined
  if (!rule || rule.from === 'artifacts') return readWritten(attempt, end.outputFile)
  const place = rule.from === 'stdout' ? 'the standard output' : rule.path
  const text = await readTaken(attempt, end.taken ?? { problem: 'absent' }, place)
  if (typeof text !== 'string') return text
  if (rule.as === 'text') return outputOutcome(attempt, rule.from === 'stdout' ? text.replace(/[\r\n]+$/, '') : text)
  const value = rule.from === 'stdout' ? parseStdout(text) : parse(text)
  if (value instanceof Error) {
    const evidence = { from: place, raw: boundText(text.slice(-RAW_TAIL_CHARS), RAW_TAIL_CHARS) }
    const message = `parsing ${place} of ${describe(attempt)}`
    const remediation = `Print one JSON value, as the whole of what is printed or as its last line; or say output: text.`
    return failed(
      failureRecord('output.not_json', message, {
        cause: value,
        evidence,
        ...(rule.from === 'stdout'
          ? { remediation }
          : { remediation: `Write one JSON value to ${place}, or say as: text.` }),
      }),
    )
  }
  return outputOutcome(attempt, value.json)
}

async function readTaken(attempt: Attempt, taken: Taken, place: string): Promise<string | Outcome> {
  if ('file' in taken) return readFile(taken.file, 'utf8')
  if (taken.problem === 'too_large') return failed(tooLarge(attempt, taken.bytes))
  const problem = {
    absent: 'it is not there',
    outside: 'it lies outside of the workspace',
    no_file: 'it is no file',
    unreadable: 'it cannot be read',
  }[taken.problem]
  return failed(
    failureRecord('output.file_missing', `taking ${place} as the output of ${describe(attempt)}`, {
      evidence: { path: place, problem },
    }),
  )
}

function parse(text: string): { json: unknown } | Error {
  try {
    return { json: JSON.parse(text) }
  } catch (error) {
    return error instanceof Error ? error : new Error(String(error))
  }
}

/** All of it is one JSON value, or its last line is. */
function parseStdout(text: string): { json: unknown } | Error {
  const whole = parse(text)
  if (!(whole instanceof Error)) return whole
  const last = text.trimEnd().split('\n').at(-1) ?? ''
  const line = parse(last)
  return line instanceof Error ? whole : line
}

/** The JSON that the command wrote to $ORRERY_OUTPUT; `{ exitCode: 0 }` when it wrote nothing. */
async function readWritten(attempt: Attempt, path: string | null): Promise<Outcome> {
  const nothing = { kind: 'succeeded', output: { exitCode: 0 }, bytes: 20 } as const
  if (path === null) return nothing
  let text: string
  try {
    const found = await stat(path)
    if (found.size > LIMITS.outputBytes) return failed(tooLarge(attempt, found.size))
    // Reading a pipe would wait for somebody to write to it.
    if (!found.isFile()) throw new Error('it is no file')
    text = await readFile(path, 'utf8')
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return nothing
    return failed(failureRecord('output.not_json', `reading ${path}`, { cause: error }))
  }
  if (text.trim() === '') return nothing
  const value = parse(text)
  if (!(value instanceof Error)) return outputOutcome(attempt, value.json)
  const evidence = { path, head: boundText(text, 1024) }
  return failed(failureRecord('output.not_json', `parsing ${path}`, { cause: value, evidence }))
}
