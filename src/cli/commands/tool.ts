import path from 'node:path'
import { canonical, type FixtureOutcome, runFixtures } from '../../agents/tools/kit/run-fixtures.ts'
import { readFixtures } from '../../agents/tools/kit/fixtures.ts'
import { nearest } from '../../base/index.ts'
import { Failure } from '../../domain/failure.ts'
import { dnsName } from '../../domain/kinds/envelope.ts'
import { readTool } from '../../domain/kinds/tool.ts'
import type { CliDeps, Signal } from '../deps.ts'
import { readText } from '../inputs.ts'
import { EXIT_OF_SIGNAL, Interrupts } from '../interrupts.ts'
import { diffLines } from '../line-diff.ts'
import type { Output } from '../output.ts'
import { readManifests } from '../resource-files.ts'
import { printableLine, span } from '../terminal-text.ts'
import { scaffoldTool, TOOL_SCAFFOLDS, type ToolScaffold } from '../tool-scaffolds.ts'
import { usageFailure } from '../usage.ts'

export interface InitToolFlags {
  type: string
}

export interface TestToolFlags {
  fixtures?: string
}

const isScaffold = (type: string): type is ToolScaffold => Object.hasOwn(TOOL_SCAFFOLDS, type)

/** `orrery tool init NAME`: manifest, implementation and fixtures that pass at once. Nothing that is there already is touched. */
export async function initTool(deps: CliDeps, output: Output, name: string, { type }: InitToolFlags): Promise<number> {
  const wrong = dnsName.safeParse(name).error?.issues[0]
  if (wrong) throw usageFailure(`${JSON.stringify(name)} ${wrong.message}`, 'Name it as the resource will be called.')
  if (!isScaffold(type)) {
    const names = Object.keys(TOOL_SCAFFOLDS)
    const near = nearest(type, names)
    const known = Object.entries(TOOL_SCAFFOLDS).map(([word, about]) => `${word} (${about})`)
    throw usageFailure(
      `--type ${type} has no beginning`,
      `${near ? `Did you mean ${near}? ` : ''}There are: ${known.join('; ')}.`,
    )
  }
  const target = path.resolve(deps.cwd, name)
  const files = scaffoldTool(name, type)
  const existing = await deps.makeFiles(files.map((file) => ({ ...file, path: path.join(target, file.path) })))
  if (existing.length > 0)
    throw new Failure('request.invalid', `making a tool in ${target}: files are there already`, {
      evidence: { existing: existing.map((file) => path.relative(target, file)) },
      remediation: 'Take another name, or move these files away. Nothing was written.',
    })
  if (output.isData) {
    output.printData({ directory: target, type, files: files.map((file) => file.path) })
    return 0
  }
  output.print([span('made '), span(name, 'bold')])
  for (const file of files) output.print([span(`  ${file.path}`, 'dim')])
  output.print('try it:', [span(`  orrery tool test ${name}`, 'accent')])
  return 0
}

/** Types whose calls are runs below, or of a server's tools: nothing of them can be tried without a run. */
const NOT_ALONE = ['mcp', 'agent', 'workflow']

/** `orrery tool test DIR|FILE`: exit code 1 when something differs. */
export async function testTool(deps: CliDeps, output: Output, named: string, flags: TestToolFlags): Promise<number> {
  const isDirectory = (await deps.listDirectory(path.resolve(deps.cwd, named))) !== null
  const manifest = isDirectory ? path.join(named, 'tool.yaml') : named
  const documents = await readManifests(deps, output, { paths: [manifest], recursive: false, namespace: null })
  const [document, second] = documents.filter(({ kind }) => kind === 'Tool')
  if (!document || second)
    throw usageFailure(
      `${manifest} has ${document ? 'several tools' : 'no tool'}`,
      'Name a manifest with one document of the kind Tool.',
    )
  const spec = readTool(document.spec)
  if (NOT_ALONE.includes(spec.type))
    throw usageFailure(
      `a tool of type ${spec.type} cannot be tried alone`,
      'Call it by a step of a workflow: tool: NAME.',
    )
  const dir = path.dirname(path.resolve(deps.cwd, manifest))
  const file = flags.fixtures ?? path.join(path.dirname(manifest), 'fixtures.yaml')
  const text = await readText(deps, file, 'the fixtures')
  output.sources[file] = text
  const fixtures = readFixtures(text, file)
  const interrupts = new Interrupts(deps)
  const left = new AbortController()
  void interrupts.first.then((signal) => left.abort(new Left(signal)))
  let outcomes: FixtureOutcome[]
  try {
    outcomes = await runFixtures({ name: document.name, spec }, fixtures, {
      dir,
      clock: deps.clock,
      random: deps.random,
      signal: left.signal,
    })
  } catch (error) {
    if (error instanceof Left) return EXIT_OF_SIGNAL[error.signal]
    throw error
  } finally {
    interrupts.stop()
  }
  const failed = outcomes.filter(({ passed }) => !passed).length
  if (output.isData)
    output.printData({ tool: document.name, passed: outcomes.length - failed, failed, fixtures: outcomes })
  else {
    for (const outcome of outcomes) printOutcome(output, outcome)
    output.print(`${outcomes.length - failed} passed, ${failed} failed`)
  }
  return failed === 0 ? 0 : 1
}

/** The command was told to leave: what it started has been ended before it does. */
class Left extends Error {
  readonly signal: Signal
  constructor(signal: Signal) {
    super(`left by ${signal}`)
    this.signal = signal
  }
}

function printOutcome(output: Output, { name, passed, result, said, wanted }: FixtureOutcome): void {
  output.print([span(passed ? 'ok    ' : 'FAIL  ', passed ? 'good' : 'bad'), span(printableLine(name))])
  if (passed) return
  const before = canonical(wanted.fails ? { fails: wanted.fails } : wanted.output)
  const after = canonical(result.ok ? result.output : { fails: { code: result.code, reason: result.reason } })
  output.print([span('      - wanted', 'good'), span('  '), span('+ came', 'bad')])
  for (const { mark, text } of diffLines(before, after)) {
    const line = `      ${mark} ${printableLine(text)}`
    output.print([mark === ' ' ? span(line) : span(line, mark === '-' ? 'good' : 'bad')])
  }
  if (!result.ok && result.evidence)
    output.print([span(`      evidence ${printableLine(JSON.stringify(result.evidence))}`, 'dim')])
  for (const line of said) output.print([span(`      said ${printableLine(line)}`, 'dim')])
}
