import { z } from 'zod'
import { defineFunction } from '../../src/sdk/index.ts'
import { Dependencies, Licences } from './dependencies.ts'
import { Authors, Churn, Todos } from './history.ts'
import { Directories, Duplicates, Facts, Files, Languages, Largest } from './inventory.ts'
import { Measure } from './measure.ts'

/** Output of the `objects` step: what `git count-objects -v` prints, sizes in KiB. */
const Objects = z.object({
  count: z.number(),
  size: z.number(),
  'in-pack': z.number(),
  packs: z.number(),
  'size-pack': z.number(),
})

const Input = z.object({
  facts: Facts,
  objects: Objects,
  files: Files,
  languages: Languages,
  largest: Largest,
  directories: Directories,
  measures: z.array(Measure),
  churn: Churn,
  authors: Authors,
  todos: Todos,
  dependencies: Dependencies,
  licences: Licences,
  duplicates: Duplicates,
})

export const Summary = Input.extend({
  totals: z.object({
    lines: z.number(),
    comments: z.number(),
    testLines: z.number(),
    binaryFiles: z.number(),
    hugeFiles: z.number(),
    storedBytes: z.number(),
  }),
  /** What a person should look at first; may be empty. */
  remarks: z.array(z.string()),
})
export type Summary = z.infer<typeof Summary>

/** Joins what the other steps found. Their outputs are checked here once more, so rendering can rely on them. */
export const summary = defineFunction({
  input: Input,
  output: Summary,
  run(input) {
    const sum = (field: 'lines' | 'comments' | 'testLines' | 'binaryFiles' | 'hugeFiles') =>
      input.measures.reduce((total, measure) => total + measure[field], 0)
    const totals = {
      lines: sum('lines'),
      comments: sum('comments'),
      testLines: sum('testLines'),
      binaryFiles: sum('binaryFiles'),
      hugeFiles: sum('hugeFiles'),
      storedBytes: (input.objects.size + input.objects['size-pack']) * 1_024,
    }
    return { ...input, totals, remarks: remarksOn(input, totals) }
  },
})

function remarksOn(found: z.infer<typeof Input>, totals: Summary['totals']): string[] {
  const { facts, files, authors, todos, dependencies, licences, duplicates } = found
  const strong = licences.licences.filter(({ kind }) => kind === 'strong copyleft')
  const oldest = Math.max(0, ...todos.files.map(({ oldestDays }) => oldestDays ?? 0))
  const remarks: [boolean, string][] = [
    [facts.head === null, 'Nothing was committed yet: what is known comes from the files alone.'],
    [facts.shallow, 'The clone is shallow, so history is cut off. Run "git fetch --unshallow" for all of it.'],
    [authors.busFactor === 1 && authors.authorCount > 1, 'One person wrote at least half of the commits.'],
    [totals.lines > 0 && totals.testLines === 0, 'No file looks like a test.'],
    [licences.project === null, 'The project declares no licence.'],
    [strong.length > 0, `Dependencies under strong copyleft: ${strong.map(({ licence }) => licence).join(', ')}.`],
    [dependencies.repeatedCount > 0, `Packages locked in more than one version: ${dependencies.repeatedCount}.`],
    [duplicates.groupCount > 0, `Groups of files with equal content: ${duplicates.groupCount}.`],
    [oldest > 365, `The oldest TODO, FIXME or HACK has waited for ${oldest} days.`],
    [totals.hugeFiles > 0, `Text files over 2 MiB, of which only the lines were counted: ${totals.hugeFiles}.`],
    [files.unreadable > 0, `Files that git names but that could not be read: ${files.unreadable}.`],
    ...dependencies.lockFiles.map(({ path, problem }): [boolean, string] => [
      problem !== null,
      `${path}: ${problem ?? ''}`,
    ]),
  ]
  return remarks.filter(([holds]) => holds).map(([, text]) => text)
}
