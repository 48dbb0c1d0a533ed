import path from 'node:path'
import { nearest } from '../../base/index.ts'
import { Failure } from '../../domain/failure.ts'
import type { CliDeps } from '../deps.ts'
import type { Output } from '../output.ts'
import { printableLine, span } from '../terminal-text.ts'
import { usageFailure } from '../usage.ts'

export interface InitFlags {
  template: string
}

/** What `orrery init` can make, with what each is about. The files are in the package's `templates/`. */
export const TEMPLATES: Record<string, string> = {
  hello: 'functions in TypeScript, a forEach, a command',
  commands: 'commands alone: typed output, conditions',
  agent: 'an agent with a typed answer, on a scripted model',
  team: 'agents that a model picks from and that ask each other',
  pipeline: 'agents one after the other, with shared instructions',
}

/** `orrery init [DIR]`: a project that runs at once. Nothing that is there already is touched. */
export async function initProject(deps: CliDeps, output: Output, directory: string, flags: InitFlags): Promise<number> {
  const names = Object.keys(TEMPLATES)
  if (!names.includes(flags.template)) {
    const near = nearest(flags.template, names)
    const known = names.map((name) => `${name} (${TEMPLATES[name]})`).join('; ')
    throw usageFailure(
      `--template ${flags.template} is no template`,
      `${near ? `Did you mean ${near}? ` : ''}There are: ${known}.`,
    )
  }
  const target = path.resolve(deps.cwd, directory)
  const files = await deps.readTemplate(flags.template)
  const existing = await deps.makeFiles(files.map((file) => ({ ...file, path: path.join(target, file.path) })))
  if (existing.length > 0) {
    throw new Failure('request.invalid', `making a project in ${target}: files are there already`, {
      evidence: { existing: existing.map((file) => path.relative(target, file)) },
      remediation: 'Name another directory, or move these files away. Nothing was written.',
    })
  }
  const relative = path.relative(deps.cwd, target)
  if (output.isData) {
    output.printData({ directory: target, template: flags.template, files: files.map((file) => file.path) })
    return 0
  }
  output.print([span('made '), span(printableLine(relative === '' ? '.' : relative), 'bold')])
  for (const file of files) output.print([span(`  ${printableLine(file.path)}`, 'dim')])
  const enter = relative === '' ? '' : `cd ${quote(relative)} && `
  output.print('run it:', [span(`  ${enter}orrery run workflow.yaml`, 'accent')])
  return 0
}

/** As a shell reads it. */
const quote = (text: string): string => (/^[\w./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`)
