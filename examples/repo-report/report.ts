/** The functions of the workflow beside this file; `report.files` there is `files` here. */
export { authors, churn, todos } from './history.ts'
export { dependencies, licences } from './dependencies.ts'
export { directories, duplicates, facts, files, languages, largest } from './inventory.ts'
export { measureDirectory } from './measure.ts'
export { html, markdown } from './render.ts'
export { summary } from './summary.ts'
