import type { Executive } from './executive.ts'
import type { Summary } from './summary.ts'

/** What the report says, before it is Markdown or HTML. */
export interface Document {
  title: string
  subtitle: string
  /** What an agent wrote, and who that was. */
  executive: Executive & { writer: string }
  /** Key numbers. */
  figures: { label: string; value: string }[]
  remarks: string[]
  sections: Section[]
}

export interface Section {
  title: string
  text: string
  columns: string[]
  rows: Cell[][]
}

export type Cell =
  | { kind: 'text'; text: string }
  /** A path or a name, shown as code. */
  | { kind: 'code'; text: string }
  /** `share` of the longest bar, 0 to 1; null draws none. */
  | { kind: 'number'; text: string; share: number | null }

const text = (value: string): Cell => ({ kind: 'text', text: value })
const code = (value: string): Cell => ({ kind: 'code', text: value })
const number = (value: number, shown = count(value)): Cell => ({ kind: 'number', text: shown, share: null })
const bar = (value: number, max: number, shown = count(value)): Cell => ({
  kind: 'number',
  text: shown,
  share: max > 0 ? Math.min(1, value / max) : 0,
})
const maxOf = <T>(items: T[], field: (item: T) => number): number =>
  items.reduce((max, item) => Math.max(max, field(item)), 0)

export const count = (value: number): string => String(value).replace(/\B(?=(\d{3})+$)/g, '\u202f')

export function bytes(value: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB']
  let unit = 0
  for (; value >= 1_024 && unit < units.length - 1; unit++) value /= 1_024
  return `${value >= 100 || unit === 0 ? Math.round(value) : value.toFixed(1)} ${units[unit] ?? ''}`
}

const percent = (part: number, whole: number): string => (whole === 0 ? '–' : `${Math.round((100 * part) / whole)} %`)

export function describe(summary: Summary, executive: Document['executive']): Document {
  const { facts, files, totals, authors } = summary
  const at = facts.head === null ? 'without commits' : `at ${facts.head.slice(0, 12)}, committed ${facts.asOf ?? ''}`
  return {
    title: facts.name,
    subtitle: `${facts.branch ?? 'detached HEAD'} ${at}`,
    executive,
    figures: [
      { label: 'files', value: count(files.files) },
      { label: 'lines', value: count(totals.lines) },
      { label: 'in the work tree', value: bytes(files.bytes) },
      { label: 'in git objects', value: bytes(totals.storedBytes) },
      { label: 'commits', value: count(facts.commits) },
      { label: 'authors', value: count(authors.authorCount) },
      { label: 'dependencies', value: count(summary.dependencies.total) },
      { label: 'TODO, FIXME, HACK', value: count(summary.todos.total) },
    ],
    remarks: summary.remarks,
    sections: [...codeSections(summary), ...historySections(summary), ...dependencySections(summary)].filter(
      ({ rows }) => rows.length > 0,
    ),
  }
}

function codeSections({ languages, largest, directories, measures, totals, files, duplicates }: Summary): Section[] {
  const maxBytes = maxOf(languages.languages, (language) => language.bytes)
  const maxLines = maxOf(measures, (measure) => measure.lines)
  const maxLargest = maxOf(largest.largest, (file) => file.bytes)
  const left =
    directories.omitted > 0 ? ` ${count(directories.omitted)} directories with fewer files are left out.` : ''
  return [
    {
      title: 'Languages',
      text: 'By file ending; new files that are not ignored count as well.',
      columns: ['Language', 'Files', 'Size'],
      rows: languages.languages.map((l) => [text(l.language), number(l.files), bar(l.bytes, maxBytes, bytes(l.bytes))]),
    },
    {
      title: 'Directories',
      text: `${count(totals.binaryFiles)} binary files are not in the lines, ${count(files.symlinks)} symbolic links and ${count(files.submodules)} submodules were not entered.${left}`,
      columns: ['Directory', 'Files', 'Comments', 'Tests', 'Lines'],
      rows: measures.map((m) => [
        code(m.directory),
        number(m.files),
        number(m.comments, percent(m.comments, m.lines - m.blank)),
        number(m.testLines, percent(m.testLines, m.lines)),
        bar(m.lines, maxLines),
      ]),
    },
    {
      title: 'Largest files',
      text: '',
      columns: ['File', 'Size'],
      rows: largest.largest.map((file) => [code(file.path), bar(file.bytes, maxLargest, bytes(file.bytes))]),
    },
    {
      title: 'Equal files',
      text: `Keeping each content once would save ${bytes(duplicates.wastedBytes)}.`,
      columns: ['Files', 'Copies', 'Size of one'],
      rows: duplicates.groups.map((g) => [code(g.paths.join(', ')), number(g.copies), number(g.bytes, bytes(g.bytes))]),
    },
  ]
}

function historySections({ churn, authors, todos }: Summary): Section[] {
  const maxCommits = maxOf(churn.files, (file) => file.commits)
  const maxAuthor = maxOf(authors.authors, (author) => author.commits)
  const maxTodos = maxOf(todos.files, (file) => file.count)
  return [
    {
      title: 'Most changed files',
      text: `The newest ${count(churn.commits)} commits, merges left out: ${count(churn.added)} lines added, ${count(churn.removed)} removed.`,
      columns: ['File', 'Added', 'Removed', 'Commits'],
      rows: churn.files.map((f) => [code(f.path), number(f.added), number(f.removed), bar(f.commits, maxCommits)]),
    },
    {
      title: 'Authors',
      text: `Bus factor ${authors.busFactor}: the fewest people who together wrote at least half of ${count(authors.commits)} commits.`,
      columns: ['Author', 'Last commit', 'Commits'],
      rows: authors.authors.map((a) => [text(a.name), text(a.lastAt), bar(a.commits, maxAuthor)]),
    },
    {
      title: 'Promised for later',
      text: `${count(todos.byMark.TODO)} TODO, ${count(todos.byMark.FIXME)} FIXME and ${count(todos.byMark.HACK)} HACK in ${count(todos.fileCount)} files. Age in days before HEAD.`,
      columns: ['File', 'Oldest', 'Marks'],
      rows: todos.files.map((f) => [
        code(f.path),
        f.oldestDays === null ? text('–') : number(f.oldestDays),
        bar(f.count, maxTodos),
      ]),
    },
  ]
}

function dependencySections({ dependencies, licences }: Summary): Section[] {
  const maxPackages = maxOf(dependencies.lockFiles, (file) => file.packages)
  const maxLicence = maxOf(licences.licences, (licence) => licence.packages)
  return [
    {
      title: 'Dependencies',
      text: `${count(dependencies.total)} packages in ${count(dependencies.lockFiles.length)} lock files.`,
      columns: ['Lock file', 'Ecosystem', 'Packages'],
      rows: dependencies.lockFiles.map((f) => [code(f.path), text(f.ecosystem), bar(f.packages, maxPackages)]),
    },
    {
      title: 'In several versions',
      text: `${count(dependencies.repeatedCount)} packages are locked more than once.`,
      columns: ['Package', 'Ecosystem', 'Versions'],
      rows: dependencies.repeated.map((r) => [code(r.name), text(r.ecosystem), text(r.versions.join(', '))]),
    },
    {
      title: 'Licences',
      text: `The project itself: ${licences.project ?? 'none declared'}. Of its dependencies ${count(licences.known)} tell, ${count(licences.unknown)} do not.`,
      columns: ['Licence', 'Kind', 'Such as', 'Packages'],
      rows: licences.licences.map((l) => [
        text(l.licence),
        text(l.kind),
        code(l.examples.join(', ')),
        bar(l.packages, maxLicence),
      ]),
    },
  ]
}
