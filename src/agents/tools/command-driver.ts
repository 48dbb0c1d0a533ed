import { assert } from '../../base/assert.ts'
import type { JsonObject } from '../../base/json.ts'
import type { ToolCallEnvelope } from '../../domain/agents/tool-envelope.ts'
import { Failure } from '../../domain/failure.ts'
import { isolationOf, type ToolSpec } from '../../domain/kinds/tool.ts'
import { asText, fillJson, fillText } from './fill-templates.ts'
import { decodeText, parseJson } from './read-answer.ts'
import { readResult } from './read-result.ts'
import { type ProgramEnd, runProgram } from './run-program.ts'
import { findProgram, limited, refuseUnstarted, sandboxed, SYSTEM_PATH } from './sandbox.ts'
import type { DriverEnv, ToolDriver, TryResult } from './tool-driver.ts'
import { placeOfProgram, type ToolPrograms } from './tool-programs.ts'

type CommandBlock = NonNullable<ToolSpec['command']>

/** A program of the worker's host, without a shell. */
export const createCommandDriver = (programs: ToolPrograms): ToolDriver => ({
  async call(spec, envelope, env) {
    const { command } = spec
    assert(command, 'a command tool has its block')
    const [program = '', ...args] = fillArguments(command.argv, envelope.input)
    const inSandbox = isolationOf(spec) === 'sandbox'
    if (!inSandbox) refuseUnlisted(program, programs.hostCommands)
    const found = placeOfProgram(program, programs, { inSandbox, field: 'command.argv' })
    const ownEnv = await environmentOf(command.env, envelope, env)
    const workdir = inSandbox ? null : await env.workdir()
    const home = workdir ?? '/tmp'
    // A script that another program runs is a file of the tools as well, where the manifest alone names it.
    const named = (arg: string, i: number): string =>
      command.argv[i + 1] === arg && arg.startsWith('./')
        ? placeOfProgram(arg, programs, { inSandbox, field: 'command.argv' })
        : arg
    const argv = [found, ...args.map(named)]
    const start = inSandbox
      ? sandboxed({ files: programs.files, limits: command.limits, argv })
      : startOnHost(command.limits, argv, env)
    const end = await runProgram({
      ...start,
      env: { PATH: SYSTEM_PATH, HOME: home, TMPDIR: home, LANG: 'C.UTF-8', ...ownEnv },
      cwd: workdir ?? '/',
      stdin: stdinOf(command.stdin, envelope),
      maxOutputBytes: spec.maxOutputBytes,
      clock: env.clock,
      signal: env.signal,
      onLine: env.log,
    })
    if (inSandbox) refuseUnstarted(end.status, end.tail)
    return resultOfEnd(end, command, { name: program, spec })
  },
})

/** Arguments as the program gets them, each template one of them. */
export function fillArguments(templates: readonly string[], input: JsonObject): string[] {
  let isAfterDashes = false
  return templates.map((template, i) => {
    const text = asText(fillJson(template, input), `argument ${i}`)
    if (text.includes('\0')) throw new Failure('tool.invalid_input', `argument ${i} has a zero byte in it`)
    // What a call says is a value, and no option of the program, unless the manifest wrote the dash.
    if (template.startsWith('${{') && text.startsWith('-') && !isAfterDashes)
      throw new Failure(
        'tool.invalid_input',
        `argument ${i} begins with a dash: the program would take it for an option`,
      )
    isAfterDashes ||= text === '--'
    return text
  })
}

function refuseUnlisted(program: string, allowed: readonly string[]): void {
  if (allowed.includes('*') || allowed.includes(program)) return
  throw new Failure('tool.isolation_unavailable', `running ${program} without isolation`, {
    evidence: { program, allowed: [...allowed] },
    remediation: `Start the worker with --tool-commands ${program} when that is meant, or leave out isolation: none.`,
  })
}

/** What a program is told beside its input; texts and secrets of the manifest last. */
export async function environmentOf(
  own: CommandBlock['env'],
  envelope: ToolCallEnvelope,
  env: DriverEnv,
): Promise<Record<string, string>> {
  const filled: Record<string, string> = {
    ORRERY_IDEMPOTENCY_KEY: envelope.idempotencyKey,
    ORRERY_TOOL: envelope.tool,
    TRACEPARENT: envelope.context.traceparent,
  }
  for (const [name, value] of Object.entries(own ?? {})) {
    const text =
      typeof value === 'string' ? fillText(value, envelope.input, `the variable ${name}`) : await env.secret(value)
    if (text?.includes('\0')) throw new Failure('tool.invalid_input', `the variable ${name} has a zero byte in it`)
    if (text !== null) filled[name] = text
  }
  return filled
}

export const stdinOf = (form: CommandBlock['stdin'], envelope: ToolCallEnvelope): string =>
  form === 'none' ? '' : JSON.stringify(form === 'input' ? envelope.input : envelope)

/** Processes are not counted here: the kernel would count all that the user of the worker runs. */
function startOnHost(limits: CommandBlock['limits'], argv: string[], env: DriverEnv): { file: string; args: string[] } {
  const [file = '', ...args] = argv
  if (findProgram('prlimit') === null) {
    env.log('there is no prlimit on this host: command.limits do not hold')
    return { file, args }
  }
  const [first = '', ...rest] = limited({ ...limits, processes: null }, argv)
  return { file: first, args: rest }
}

function resultOfEnd(
  end: ProgramEnd,
  command: CommandBlock,
  { name, spec }: { name: string; spec: ToolSpec },
): TryResult {
  const { code, signal, tail } = end
  if (end.isTooLarge)
    throw new Failure('tool.invalid_output', `the output of ${name} is larger than ${spec.maxOutputBytes} bytes`, {
      evidence: { maxOutputBytes: spec.maxOutputBytes },
    })
  if (code !== null && command.exitCodes.includes(code)) return outputOf(end, command.output, name)
  // A result that the program wrote says more than its code.
  const told = command.output === 'envelope' ? resultIn(end, name) : null
  if (told?.ok === false) return told
  const last = tail.trim().split('\n').at(-1) ?? ''
  const how = endedBy(code, signal)
  return {
    ok: false,
    code: 'tool.failed',
    reason: `${name} ${how}${last === '' ? '' : `: ${last}`}`,
    retryable: code !== null && (command.retryCodes ?? []).includes(code),
    evidence: { ...(code === null ? {} : { exitCode: code }), ...(signal === null ? {} : { signal }), tail },
  }
}

/** Codes beyond 128 are how whoever ran it tells of a signal. */
function endedBy(code: number | null, signal: string | null): string {
  const number = code !== null && code > 128 ? code - 128 : null
  if (signal === 'SIGXCPU' || number === 24) return 'took more time of the processor than it may'
  if (signal === 'SIGXFSZ' || number === 25) return 'wrote a larger file than it may'
  return code === null ? `was ended by ${signal}` : `ended with code ${code}`
}

export function outputOf(end: Pick<ProgramEnd, 'stdout'>, form: CommandBlock['output'], name: string): TryResult {
  const what = `the output of ${name}`
  const text = decodeText(end.stdout, what)
  if (form === 'text') return { ok: true, output: text }
  const value = parseJson(text, what)
  return form === 'json' ? { ok: true, output: value } : readResult(value, what)
}

function resultIn(end: ProgramEnd, name: string): TryResult | null {
  try {
    return outputOf(end, 'envelope', name)
  } catch {
    return null
  }
}
