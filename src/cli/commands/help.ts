import type { Command } from 'commander'
import { formatDuration } from '../../base/index.ts'
import { nearest } from '../../base/nearest.ts'
import { FAILURES, type FailureCode } from '../../domain/failures.ts'
import { type Field, fieldsOf } from '../../domain/kinds/fields.ts'
import { workflowKind } from '../../domain/kinds/workflow.ts'
import type { Output } from '../output.ts'
import { type Line, span, wrap } from '../terminal-text.ts'
import { usageFailure } from '../usage.ts'
import { settingRows, VARIABLES } from '../variables.ts'

/** What `orrery help` knows beside commands. Each is made from what the program itself goes by. */
export const TOPICS: Readonly<Record<string, (width: number, program: Command) => Line[]>> = {
  workflow: (width) => workflowTopic(width),
  environment: (width, program) => environmentTopic(width, program),
  'exit-codes': (width) => exitTopic(width),
}

/** `orrery help [COMMAND… | TOPIC]`. */
export async function showHelp(output: Output, program: Command, words: readonly string[]): Promise<number> {
  const topic = words.length === 1 ? TOPICS[words[0] ?? ''] : undefined
  if (topic) output.print(...topic(output.width, program))
  else commandOf(program, words).outputHelp()
  return 0
}

function commandOf(program: Command, words: readonly string[]): Command {
  let command = program
  for (const [i, word] of words.entries()) {
    const next = command.commands.find((candidate) => candidate.name() === word)
    if (!next) {
      const known = [...command.commands.map((child) => child.name()), ...(i === 0 ? Object.keys(TOPICS) : [])]
      const near = nearest(word, known)
      throw usageFailure(
        `there is no command or topic ${JSON.stringify(words.join(' '))}`,
        `${near ? `Did you mean ${near}? ` : ''}Topics are ${Object.keys(TOPICS).join(', ')}; orrery --help lists the commands.`,
      )
    }
    command = next
  }
  return command
}

/** A name with what is said of it behind and below. */
function entry(name: string, facts: readonly string[], text: string, width: number): Line[] {
  const below = text === '' ? [] : wrap(text, Math.max(20, width - 6))
  return [
    [span(`  ${name}`, 'bold'), span(facts.length === 0 ? '' : `  ${facts.join('; ')}`, 'dim')],
    ...below.map((line): Line => [span(`      ${line}`)]),
  ]
}

const title = (text: string): Line => [span(text, 'bold')]
const paragraph = (text: string, width: number): Line[] => wrap(text, width).map((line): Line => [span(line)])

function workflowTopic(width: number): Line[] {
  const fields = fieldsOf(workflowKind.schema)
  const isStep = ({ path }: Field): boolean => path.startsWith('spec.steps[].')
  const entries = (some: Field[]): Line[] => some.flatMap((field) => fieldLines(field, width))
  return [
    title('The manifest of a workflow'),
    ...paragraph(`${workflowKind.summary} A key that is not listed here is an error.`, width),
    [],
    title('The document'),
    ...entries(fields.filter((field) => !isStep(field))),
    [],
    title('A step: a member of spec.steps'),
    ...entries(fields.filter(isStep)),
    [],
    ...paragraph('orrery validate FILE checks a manifest; orrery plan FILE shows what a run of it would do.', width),
  ]
}

function fieldLines({ path, type, isRequired, fallback, limits, description }: Field, width: number): Line[] {
  const facts = [
    type.replaceAll('`', ''),
    ...(isRequired ? ['required'] : []),
    ...fallbackFacts(type, fallback),
    ...limits,
  ]
  return entry(path.replace('spec.steps[].', ''), facts, description ?? '', width)
}

function fallbackFacts(type: string, fallback: unknown): string[] {
  if (fallback === undefined || fallback === null || typeof fallback === 'object') return []
  const text = type === 'duration' && typeof fallback === 'number' ? formatDuration(fallback) : String(fallback)
  return [`default ${text}`]
}

function environmentTopic(width: number, program: Command): Line[] {
  const options = program.commands
    .filter((command) => ['up', 'worker'].includes(command.name()))
    .flatMap((command) => command.options)
  const settings = settingRows().flatMap(({ flag, variable, fallback, accepted }) => {
    const option = options.find((candidate) => candidate.long === flag)
    const meaning = option?.description.replace(/ \([^(]*\)$/, '') ?? ''
    const facts = [flag, accepted, ...(fallback === '' ? [] : [`default ${fallback}`])]
    return entry(variable, facts, flag.startsWith('--no-') ? `false: ${meaning}` : meaning, width)
  })
  const others = Object.entries(VARIABLES).flatMap(([name, { of, meaning }]) =>
    entry(name, [of], meaning.replaceAll('`', ''), width),
  )
  return [
    title('Settings'),
    ...paragraph(
      'A flag wins over its variable, a variable over the file of --config, the file over the default. An empty variable counts as absent.',
      width,
    ),
    ...settings,
    [],
    title('Other variables, with what reads or finds them'),
    ...others,
    [],
    ...paragraph(
      'Beside these, variables that begin with ORRERY_SECRET_, or what --secrets-env-prefix says, are looked through for secrets.',
      width,
    ),
  ]
}

function exitTopic(width: number): Line[] {
  const codes = Object.entries(FAILURES) as [FailureCode, (typeof FAILURES)[FailureCode]][]
  const exits = [...new Set(codes.map(([, { exit }]) => exit))].sort((a, b) => a - b)
  return [
    title('Exit codes'),
    ...entry('0', [], 'Done.', width),
    ...exits.flatMap((exit) => {
      const group = codes.filter(([, row]) => row.exit === exit)
      return entry(String(exit), [], group.map(([code]) => code).join(', '), width)
    }),
    ...entry('130, 143', [], 'Left by an interrupt (SIGINT), or by SIGTERM.', width),
    ...entry('141', [], 'Whoever read the output has gone.', width),
    [],
    ...paragraph('orrery explain CODE says what a code means and what to do; orrery explain -o wide lists all.', width),
  ]
}
